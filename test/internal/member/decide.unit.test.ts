/**
 * What an instance without data does, by what the others answer, and which place a cluster has for it.
 */
import { assert, describe, it } from "@effect/vitest"
import { MemberId } from "../../../src/EtcdId.ts"
import type { Member } from "../../../src/EtcdMembership.ts"
import type { Answer } from "../../../src/internal/member/answers.ts"
import * as Decide from "../../../src/internal/member/decide.ts"
import * as Ids from "../../../src/internal/member/ids.ts"
import * as Place from "../../../src/internal/member/place.ts"
import { declaredBy, type Settings } from "../../../src/internal/member/settings.ts"

const urlOf = (name: string) => `http://${name}:2380`
const urlsOf = (names: string) => [...names].map(urlOf)

const settings: Settings = {
  ...{ name: "a", token: "token", size: 3, peers: [], peerUrl: urlOf("a"), clientUrl: "http://a:2379" },
  ...{ dataDir: "/data", walDir: undefined, listenPeerUrls: [], runDirectory: undefined, allowInsecurePeers: true },
  peerTls: {
    ...{ ca: undefined, certificate: undefined, key: undefined, isMutual: false, isAutomatic: true },
    asking: { certificate: undefined, key: undefined }
  },
  standby: "learner",
  joinTimeoutMillis: Number.POSITIVE_INFINITY,
  startTimeout: undefined!,
  replaceAfterMillis: Number.POSITIVE_INFINITY,
  config: {},
  process: {}
}

const abc = declaredBy(settings, urlsOf("abc"))
const clusterId = abc.clusterId!

const nobody: Answer = { _tag: "Nobody", why: "silence" }
/** When the others are asked, and for how long the instance that decides has waited then. */
const now = 5000
const waitedMillis = 1000

const waiting = (clusterId = abc.clusterId, name = "b", waitedMillis = 0, tookMillis = 1): Answer => ({
  ...{ _tag: "Waiting", instance: name, name, clusterId, waitedMillis, asked: { from: now, to: now + tookMillis } }
})
/** An etcd that has begun with these, of which some have served. */
const etcd = (names: string, served: string, id = clusterId): Answer => ({
  _tag: "Etcd",
  clusterId: id,
  members: [...names].map((name) => ({
    ...{ id: Ids.ofFirstMember(urlOf(name), "token"), name, peerUrls: [urlOf(name)], isLearner: false },
    clientUrls: served.includes(name) ? [`http://${name}:2379`] : []
  }))
})

const decide = (b: Answer, c: Answer, declared = abc, own = settings) =>
  Decide.decide(
    own,
    declared,
    new Map([
      [urlOf("b"), b],
      [urlOf("c"), c]
    ]),
    now - waitedMillis
  )

const tagOf = (...args: Parameters<typeof decide>): string => decide(...args)._tag

describe("an instance without data", () => {
  it("begins where a majority of the same set has none either, and is there", () => {
    assert.strictEqual(tagOf(nobody, nobody), "Wait")
    assert.strictEqual(tagOf(waiting(), nobody), "Begin")
    assert.strictEqual(tagOf(waiting(), waiting()), "Begin")
    assert.strictEqual(tagOf(etcd("abc", ""), nobody), "Begin")
    assert.deepInclude(decide(waiting(), nobody), { urls: urlsOf("abc"), clusterId })
    // With another set or token, or none that is complete.
    assert.strictEqual(tagOf(waiting(7n), nobody), "Wait")
    const ofNone: Answer = {
      _tag: "Waiting",
      instance: "b",
      name: "b",
      clusterId: undefined,
      waitedMillis: 0,
      asked: { from: now, to: now }
    }
    const why = decide(ofNone, nobody)
    assert.isTrue(why._tag === "Wait" && why.what.includes("and with no cluster to begin"))
  })

  it("does not begin beside those who have begun, and may have promised each other something", () => {
    assert.strictEqual(tagOf(etcd("abc", ""), etcd("abc", "")), "Wait")
  })

  it("does not begin a cluster that it has left, whoever is there, and asks it where somebody has served", () => {
    const left = { ...abc, left: clusterId }
    assert.strictEqual(tagOf(waiting(), waiting(), left), "Wait")
    assert.strictEqual(tagOf(etcd("abc", ""), nobody, left), "Wait")
    assert.strictEqual(tagOf(etcd("abc", "b"), nobody, left), "Consult")
  })

  it("does not begin where somebody has served", () => {
    for (const b of [nobody, waiting()]) assert.strictEqual(tagOf(b, etcd("abc", "ac")), "Consult")
    assert.deepInclude(decide(etcd("abc", "b"), etcd("abc", "bc")), {
      clientUrls: ["http://b:2379", "http://c:2379"]
    })
  })

  it("does not begin where the set is not complete, or is one without it", () => {
    for (const names of ["", "ab", "abcd", "bcd"]) {
      assert.strictEqual(tagOf(waiting(), waiting(), declaredBy(settings, urlsOf(names))), "Wait", names)
    }
    // Twice the same is one.
    const twice = declaredBy(settings, ["http://a:2380", "http://A:2380", "http://b:2380"])
    assert.strictEqual(tagOf(waiting(), waiting(), twice), "Wait")
    // etcd writes the scheme in small letters, and leaves the rest as it is.
    assert.strictEqual(declaredBy(settings, [...urlsOf("ab"), "HTTP://c:2380"]).clusterId, clusterId)
    const one = { ...settings, size: 1 }
    assert.strictEqual(Decide.decide(one, declaredBy(one, urlsOf("a")), new Map(), 0)._tag, "Begin")
  })

  it("refuses another cluster, and two", () => {
    assert.strictEqual(tagOf(etcd("abc", "", 7n), nobody), "Refuse")
    assert.strictEqual(tagOf(etcd("abc", "b", 7n), etcd("abc", "c", 8n)), "Refuse")
    const decision = decide(etcd("abc", "b", 7n), etcd("abc", "c", 8n))
    assert.include(decision._tag === "Refuse" ? decision.error.message : "", "7 at http://b:2380, 8 at http://c:2380")
  })

  it("gives way to another one of its name that was there before, and begins with none of its name", () => {
    const namesake = (waitedMillis: number, took?: number) => waiting(clusterId, "a", waitedMillis, took)
    assert.strictEqual(tagOf(namesake(waitedMillis + 1), nobody), "Refuse")
    // Of one that has come while the answer was under way, it is not known whether it was there before: URLs decide.
    const other = { ...settings, peerUrl: urlOf("z") }
    for (const [took, mine, its] of [
      [500, "Wait", "Refuse"],
      [300, "Refuse", "Refuse"]
    ] as const) {
      assert.strictEqual(tagOf(namesake(waitedMillis + 400, took), nobody), mine)
      assert.strictEqual(tagOf(namesake(waitedMillis + 400, took), nobody, abc, other), its)
    }
    assert.strictEqual(tagOf(namesake(waitedMillis - 1, 500), nobody, abc, other), "Wait")
    const decision = decide(namesake(waitedMillis - 1), nobody)
    assert.include(decision._tag === "Wait" ? decision.what : "", "with the name of this one http://b:2380")
    assert.strictEqual(tagOf(namesake(waitedMillis - 1), waiting(clusterId, "c")), "Begin")
  })
})

/** Of the first set, where no id is given. */
const member = (name: string, more: Partial<Member> & { readonly at?: string } = {}): Member => {
  const url = urlOf(more.at ?? name)
  return {
    id: more.id ?? MemberId(Ids.ofFirstMember(url, "token")),
    name: more.name ?? name,
    peerUrls: [url],
    clientUrls: more.clientUrls ?? [`http://${name}:2379`],
    isLearner: more.isLearner ?? false
  }
}

const place = (members: ReadonlyArray<Member>, own: Partial<Settings> = {}, id = clusterId) =>
  Place.find({ ...settings, ...own }, abc, { clusterId: id, members })._tag

describe("a place in a cluster", () => {
  const [b, c, d] = ["b", "c", "d"].map((name) => member(name))

  it("of the first set that was never taken", () => {
    assert.strictEqual(place([member("a", { name: "a:2380", clientUrls: [] }), b!, c!]), "First")
    // In another cluster, or under another id, it is somebody's that never served.
    assert.strictEqual(place([member("a", { name: "a:2380", clientUrls: [] }), b!, c!], {}, 7n), "Predecessor")
    assert.strictEqual(
      place([member("a", { name: "a:2380", clientUrls: [], id: MemberId(7n) }), b!, c!]),
      "Predecessor"
    )
  })

  it("that was added and never started", () => {
    const added = { name: "", clientUrls: [], id: MemberId(7n) }
    assert.strictEqual(place([member("a", { ...added, isLearner: true }), b!, c!]), "Added")
    assert.strictEqual(place([member("a", added), b!, c!]), "Added")
  })

  it("of who had its URL, or its name", () => {
    assert.strictEqual(place([member("a"), b!, c!]), "Predecessor")
    assert.strictEqual(place([member("z", { at: "a" }), b!, c!]), "Predecessor")
    assert.strictEqual(place([member("a", { at: "z" }), b!, c!]), "Predecessor")
  })

  it("that is free", () => {
    assert.strictEqual(place([b!, c!]), "Free")
    assert.strictEqual(place([b!, c!, d!]), "Free")
    assert.strictEqual(place([b!, c!, d!], { standby: "client" }), "Full")
    const learner = member("e", { isLearner: true, id: MemberId(7n) })
    assert.strictEqual(place([b!, c!, learner]), "Turn")
    assert.strictEqual(place([b!, c!, d!, learner]), "Full")
  })

  it("in a cluster that began with another token is none", () => {
    const other = ["b", "c", "d"].map((name) =>
      member(name, { id: MemberId(Ids.ofFirstMember(urlOf(name), "another")) })
    )
    const view = { clusterId: Ids.ofMembers(other.map(({ id }) => id)), members: other }
    assert.strictEqual(Place.strange(settings, abc, view)?.reason._tag, "WrongCluster")
    assert.isUndefined(Place.strange({ ...settings, token: "another" }, abc, view))
    // Whose first members have gone, cannot be told.
    const replaced = { clusterId: view.clusterId, members: [...other.slice(1), member("e", { id: MemberId(7n) })] }
    assert.isUndefined(Place.strange(settings, abc, replaced))
  })

  it("is told to etcd with a name of its own for each", () => {
    assert.deepStrictEqual(Place.initialCluster(settings, [member("z", { at: "a" }), member("a", { at: "b" })]), {
      a: ["http://a:2380"],
      "b:2380": ["http://b:2380"]
    })
  })
})
