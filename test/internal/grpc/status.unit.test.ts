import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { formatTimeout, isGrpcContentType, readStatus, shorten } from "../../../src/internal/grpc/status.ts"

describe("status", () => {
  it("grpc-timeout has at most eight digits, and never says less than was asked for", () => {
    assert.strictEqual(formatTimeout(0.25), "250u")
    assert.strictEqual(formatTimeout(1.2), "2m")
    assert.strictEqual(formatTimeout(5000), "5000m")
    assert.strictEqual(formatTimeout(99_999_999), "99999999m")
    assert.strictEqual(formatTimeout(100_000_000), "100000S")
    assert.strictEqual(formatTimeout(Number.MAX_SAFE_INTEGER), "99999999H")
    const units: Readonly<Record<string, number>> = { u: 0.001, m: 1, S: 1000, M: 60_000, H: 3_600_000 }
    fc.assert(
      fc.property(fc.double({ min: 1e-3, max: 1e13, noNaN: true }), (millis) => {
        const [, digits, unit] = /^(\d{1,8})([umSMH])$/.exec(formatTimeout(millis))!
        assert.isAtLeast(Number(digits) * units[unit!]! * (1 + 1e-9), millis)
      })
    )
  })

  it("grpc-message is decoded where it can be, and kept where it cannot", () => {
    const decoded = (text: string) => readStatus({ "grpc-status": "5", "grpc-message": text })?.message
    assert.strictEqual(decoded("plain"), "plain")
    assert.strictEqual(decoded("a%20b%E2%82%AC"), "a b€")
    assert.strictEqual(decoded("100%"), "100%")
    assert.strictEqual(decoded("%zz%41"), "%zzA")
    assert.strictEqual(decoded("%FF"), "\ufffd")
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => decoded(encodeURIComponent(text)) === text))
    fc.assert(fc.property(fc.string(), (text) => typeof decoded(text) === "string"))
  })

  it("a status is a number from 0 to 16, and everything else is UNKNOWN", () => {
    assert.isUndefined(readStatus({}))
    assert.deepStrictEqual(readStatus({ "grpc-status": "0" }), { code: 0, message: "" })
    assert.deepStrictEqual(readStatus({ "grpc-status": "16", "grpc-message": "x" }), { code: 16, message: "x" })
    for (const text of ["17", "99", "0x1", "1.0", "", "5, 5"]) {
      assert.strictEqual(readStatus({ "grpc-status": text })?.code, 2, text)
    }
  })

  it("content types of gRPC", () => {
    for (const type of [
      "application/grpc",
      "application/grpc+proto",
      "application/grpc;charset=utf-8",
      "APPLICATION/GRPC"
    ]) {
      assert.isTrue(isGrpcContentType(type), type)
    }
    for (const type of [undefined, "", "application/grpc-web", "application/grpcweb", "text/html"]) {
      assert.isFalse(isGrpcContentType(type), String(type))
    }
  })

  it("pieces of text for errors are one short line", () => {
    assert.strictEqual(shorten(" a\r\n\u001b[31mb\u0000 ", 80), "a [31mb")
    assert.strictEqual(shorten("abcdef", 3), "abc...")
  })
})
