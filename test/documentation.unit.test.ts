/**
 * What is said of all that the modules export, in their sources, for who has it under the cursor. What it says is for readers to
 * judge; here is only seen that nothing is left out.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Declarations from "./support/declarations.ts"
import * as Documentation from "./support/documentation.ts"

const { exported, headers } = Documentation

type Exported = Documentation.Exported
type Member = Documentation.Member

const nameOf = (one: Exported): string => `${one.module}.${one.name}`

const find = (module: string, name: string): ReadonlyArray<Exported> =>
  exported.filter((one) => one.module === module && one.name === name)

/** The interfaces of services, among all: `EtcdKv.Service`. */
const services = new Set(
  Array.from(headers.keys()).flatMap((module) =>
    Array.from(
      Declarations.textOf(module).matchAll(/\bContext\.Service<\w+, (\w+)>/g),
      ([, shape]) => `${module}.${shape}`
    )
  )
)

/** Those whose functions the module has as well, and has no others by their names. */
const withFunctions = exported.filter((one) => services.has(nameOf(one)) && nameOf(one) !== "EtcdCluster.Cluster")

/** Texts that are names which others gave, and that say what they mean to who knows those. */
const namesOfOthers = new Set(["EtcdBinary.Platform", "EtcdClient.ServiceName"])

/**
 * A field without a comment is one that is always there, whose name is one of these, and which has no unit and no cases that
 * would have to be told: that is seen from its type. They mean the same wherever they are.
 */
const plain = new Set([
  // What everything has that is one of some.
  "_tag",
  // Of errors.
  "message",
  "reason",
  "cause",
  // Of what etcd answers.
  "header",
  "clusterId",
  "memberId",
  "id",
  "key",
  "keyBytes",
  "value",
  "members",
  // Of what carries something on.
  "entry",
  "event",
  "events",
  // Of machines.
  "name",
  "path",
  "url",
  "version",
  "endpoints",
  "username",
  "password"
])

const hasUnitOrCases = (type: string): boolean =>
  /\b(?:number|bigint|boolean|null|undefined|Duration|Option|Effect|Stream|Int|BigInt|Boolean)\b|=>/.test(type)

/** Fields that no program is to touch. */
const isOwn = (member: Member): boolean => /(?:^|\.)(?:\w*TypeId|_[A-Z]?)(?:\.|$)/.test(member.name)

const speaksForItself = (member: Member): boolean =>
  member.kind === "field" &&
  !member.isOptional &&
  plain.has(member.name.split(".").at(-1)!) &&
  !hasUnitOrCases(member.type)

/** What a comment mentions as code. */
const mentions = (comment: Documentation.Comment | undefined, word: string): boolean =>
  new RegExp(`["\`]${word}["\`]`).test(comment?.text ?? "")

/** A type that is one of several is told of in one comment, each of its shapes and their fields included. */
const isToldAbove = (one: Exported, member: Member): boolean =>
  one.kind === "type" && member.name.split(" | ").every((name) => mentions(one.comment, name.replaceAll('"', "")))

const says = (comment: Documentation.Comment | undefined): boolean => (comment?.text ?? "") !== ""

/** An effect, a stream or a layer, or a function. */
const isRun = (one: Exported): boolean =>
  one.kind === "value" && (one.isFunction || /^(?:Effect\.Effect|Stream\.Stream|Layer\.Layer)</.test(one.type))

const exampleOf = (one: Exported): string => one.comment?.tags.get("example") ?? ""

/** By its name, as programs write it. */
const isShown = (one: Exported): boolean => new RegExp(`\\b${one.module}\\.${one.name}\\b`).test(exampleOf(one))

const linksIn = (comment: Documentation.Comment | undefined): ReadonlyArray<string> =>
  Array.from((comment?.text ?? "").matchAll(/\{@link\s+([\w.]+)[^}]*\}/g), ([, target]) => target!)

describe("every module", () => {
  it("says at its head what it is for, and since when it is there", () => {
    for (const [module, header] of headers) {
      assert.isTrue(says(header), module)
      assert.includeMembers([...header!.tags.keys()], ["packageDocumentation", "since"], module)
    }
  })
})

describe("everything that is exported", () => {
  it("has a comment that says what it is, since when, and what it belongs to", () => {
    assert.isAbove(exported.length, 500)
    const silent = exported.filter(
      ({ comment }) => !says(comment) || !comment!.tags.has("since") || !comment!.tags.has("category")
    )
    assert.deepStrictEqual(silent.map(nameOf), [])
  })

  it("has comments at all that it consists of, but for what speaks for itself", () => {
    const silent = exported.flatMap((one) => {
      const isService = services.has(nameOf(one))
      return one.members
        .filter((member) => !says(member.comment) && !isOwn(member) && !isToldAbove(one, member))
        .filter((member) => isService || !speaksForItself(member))
        .map((member) => `${nameOf(one)}.${member.name}`)
    })
    assert.deepStrictEqual(silent, [])
  })

  it("says of each option what holds without it", () => {
    const silent = exported
      .filter((one) => one.comment?.tags.get("category") === "options")
      .flatMap((one) =>
        one.members
          .filter((member) => member.isOptional && !/\bdefault\b/i.test(member.comment?.text ?? ""))
          .map((member) => `${nameOf(one)}.${member.name}`)
      )
    assert.deepStrictEqual(silent, [])
  })

  it("says what each of the texts means that it may be", () => {
    const silent = exported
      .filter((one) => !namesOfOthers.has(nameOf(one)))
      .flatMap((one) =>
        one.literals.filter((literal) => !mentions(one.comment, literal)).map((literal) => `${nameOf(one)}: ${literal}`)
      )
    assert.deepStrictEqual(silent, [])
  })

  it("has an example of its own, if it is run, in which it stands", () => {
    const silent = exported.filter((one) => isRun(one) && !isShown(one))
    assert.deepStrictEqual(silent.map(nameOf), [])
  })

  it("says what it fails with, if it can fail: by itself, as what it is told to be like, or with all of its module", () => {
    /** A failover is no failure. */
    const tells = (comment: Documentation.Comment | undefined): boolean =>
      /\b(?:fail|fails|failed|failure|errors?|refus\w+)\b(?! over)/i.test(comment?.text ?? "")
    const ofAll = (module: string): boolean =>
      /\ball (?:of them )?fail with\b/.test((headers.get(module)?.text ?? "").replace(/\s+/g, " "))
    const isTold = (module: string, comment: Documentation.Comment | undefined): boolean =>
      tells(comment) ||
      Array.from((comment?.text ?? "").matchAll(/\b(?:as|more at)\s+\{@link (\w+)\}/gi), ([, like]) => like!).some(
        (like) => find(module, like).some((one) => isTold(module, one.comment))
      )
    /** Of a function of a module, also what is said of it as member of the service, and the other way round. */
    const isToldOf = (module: string, name: string): boolean =>
      find(module, name).some(({ comment }) => isTold(module, comment)) ||
      withFunctions.some(
        (service) =>
          service.module === module &&
          service.members.some((member) => member.name === name && isTold(module, member.comment))
      )
    const failing = exported.flatMap((one) => [
      ...(one.error === undefined ? [] : [{ one, name: one.name, isSilent: !isToldOf(one.module, one.name) }]),
      ...one.members
        .filter((member) => member.error !== undefined && !isOwn(member))
        .map(({ comment, name }) => ({
          one,
          name: `${one.name}.${name}`,
          isSilent:
            !tells(one.comment) &&
            !isTold(one.module, comment) &&
            !(withFunctions.includes(one) && isToldOf(one.module, name))
        }))
    ])
    assert.isAbove(failing.length, 250)
    const silent = failing
      .filter(({ isSilent, one }) => isSilent && !ofAll(one.module))
      .map(({ name, one }) => `${one.module}.${name}`)
    assert.deepStrictEqual(silent, [])
  })

  it("has the same said of it as function of a module and as member of its service", () => {
    assert.isAbove(withFunctions.length, 7)
    const firstSentence = (comment: Documentation.Comment | undefined): string =>
      (comment?.text ?? "").replace(/\s+/g, " ").split(/\.(?: |$)/)[0]!
    const different = withFunctions.flatMap((service) =>
      service.members
        .filter(({ comment, name }) => {
          const [beside] = find(service.module, name)
          return beside !== undefined && firstSentence(beside.comment) !== firstSentence(comment)
        })
        .map((member) => `${nameOf(service)}.${member.name}`)
    )
    assert.deepStrictEqual(different, [])
  })

  it("is led to something by each link", () => {
    const isThere = (module: string, target: string): boolean => {
      const [first = "", second] = target.split(".")
      const here = find(module, first)
      if (second === undefined) return here.length > 0
      return here.some(({ members }) => members.some(({ name }) => name === second)) || find(first, second).length > 0
    }
    const broken = exported.flatMap((one) =>
      [one.comment, ...one.members.map(({ comment }) => comment)].flatMap((comment) =>
        linksIn(comment)
          .filter((target) => !isThere(one.module, target))
          .map((target) => `${nameOf(one)}: ${target}`)
      )
    )
    assert.deepStrictEqual(broken, [])
  })
})
