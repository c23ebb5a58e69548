/**
 * Certificates made with `openssl`, as in the guide. There are two authorities: `hosts` vouches for members, and `clients` for
 * those who use the cluster. With one for both, whoever has a client's certificate could speak as a member.
 */
import { Effect, FileSystem } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

export type Authority = "hosts" | "clients"

/** Runs `openssl` in the directory of the certificates. */
const openssl = (directory: string, ...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const command = ChildProcess.make("openssl", args, { cwd: directory, stdout: "ignore", stderr: "ignore" })
    const code = yield* spawner.exitCode(command)
    if (code !== 0) return yield* Effect.die(`openssl ${args.join(" ")} ended with ${code}`)
  })

const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

/** `<name>.pem`, which is public, and `<name>.key`, which stays where certificates are made. */
export const authority = (directory: string, name: Authority) =>
  openssl(
    ...[directory, "req", "-x509", ...newKey, "-keyout", `${name}.key`],
    ...["-out", `${name}.pem`, "-days", "3650", "-subj", `/CN=${name}`]
  )

/** `<name>.pem` and `<name>.key`: for a host with these addresses, or, without any, for a client. */
export const certificate = (directory: string, name: string, addresses: ReadonlyArray<string> = [], days = 90) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const isHost = addresses.length > 0
    const names = addresses.map((address) => (/^[\d.:]+$/.test(address) ? `IP:${address}` : `DNS:${address}`))
    // A member is a server for clients, and both server and client for the other members.
    const extensions = isHost
      ? ["extendedKeyUsage = serverAuth, clientAuth", `subjectAltName = ${names.join(", ")}`]
      : ["extendedKeyUsage = clientAuth"]
    yield* fs.writeFileString(`${directory}/${name}.ext`, extensions.join("\n"))
    yield* openssl(
      ...[directory, "req", ...newKey, "-keyout", `${name}.key.new`],
      ...["-out", `${name}.csr`, "-subj", `/CN=${name}`]
    )
    const signer = isHost ? "hosts" : "clients"
    yield* openssl(
      ...[directory, "x509", "-req", "-in", `${name}.csr`, "-CA", `${signer}.pem`, "-CAkey", `${signer}.key`],
      ...["-CAcreateserial", "-days", String(days), "-extfile", `${name}.ext`, "-out", `${name}.pem.new`]
    )
    // Renamed, so that nobody reads half a file.
    yield* fs.rename(`${directory}/${name}.key.new`, `${directory}/${name}.key`)
    yield* fs.rename(`${directory}/${name}.pem.new`, `${directory}/${name}.pem`)
  })
