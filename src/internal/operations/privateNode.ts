/**
 * An etcd that runs the data of a member for this program alone: nobody else finds its sockets, and it knows no other
 * member.
 *
 * Where the data ask for a user and a password, which whoever restores them need not know, it is called by a token that this
 * program makes itself: the node takes tokens that are signed with a key which was made for it (`--auth-token jwt`), and
 * believes that their bearer is `root`, whom etcd lets nobody remove while it asks for users. Nothing of the data is changed
 * for that. Who has the data of a cluster can read all of it anyway.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type { EtcdBinary } from "../../EtcdBinary.ts"
import * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdConfig from "../../EtcdConfig.ts"
import * as EtcdProcess from "../../EtcdProcess.ts"
import * as Place from "../process/place.ts"

export interface PrivateNode {
  readonly client: EtcdClient.Client
  /** What every call to it is made with. */
  readonly as: EtcdClient.CallOptions
}

/** Reading a large database, and applying a long log, takes its time. */
const startTimeout = "15 minutes"

const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url")

/** It is asked whether its revision is older than that of users and roles, and for no more where administrators call. */
const revision = 1e15

const tokenOf = (key: string, seconds: number): string => {
  const { createHmac } = globalThis.process.getBuiltinModule("node:crypto")
  const claims = encode({ username: "root", revision, exp: seconds + 24 * 60 * 60 })
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${claims}`
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`
}

export const make = Effect.fnUntraced(function* (dataDir: string, { path }: EtcdBinary, config: EtcdConfig.Input = {}) {
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  const { randomBytes } = globalThis.process.getBuiltinModule("node:crypto")
  const key = randomBytes(32).toString("base64url")
  // Not beside the data: their path may have what parts the settings of a token.
  const runDirectory = yield* Effect.flatMap(EtcdConfig.decode(config), Place.makeHome)
  const keyFile = join(runDirectory, "key")
  yield* fs.writeFileString(keyFile, key, { mode: 0o600 })
  const node = yield* EtcdProcess.ephemeral(
    Object.assign(
      {
        dataDir,
        // What was full is not made fuller here, and it is not kept.
        quotaBackendBytes: "unlimited",
        authToken: `jwt,sign-method=HS256,priv-key=${keyFile},ttl=24h`
      } satisfies EtcdConfig.Input,
      config
    ),
    { binary: path, log: false, startTimeout, gracePeriod: "1 minute", runDirectory, runDirectoryIsTemporary: true }
  )
  const client = yield* EtcdClient.make({ endpoints: node.endpoints })
  const token = tokenOf(key, Math.floor((yield* Clock.currentTimeMillis) / 1000))
  const found: PrivateNode = { client, as: { metadata: { token } } }
  return found
})
