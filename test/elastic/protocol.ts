/**
 * What instances and those who watch over them say to each other.
 */
import type * as EtcdMember from "../../src/EtcdMember.ts"

/** What an instance is told when it starts. */
export interface Settings {
  /** Where all have their sockets and data. */
  readonly directory: string
  readonly name: string
  readonly peers: ReadonlyArray<string>
  readonly size: number
  /** What its writes begin with: no two processes have the same. */
  readonly prefix: string
  readonly pauseMillis: number
}

/** What an instance says, each on a line of its own. */
export type Said =
  | {
      readonly _tag: "State"
      readonly state: EtcdMember.State["_tag"]
      readonly reason?: string
      /** Of its node, while it has one. */
      readonly clusterId?: string
      readonly pid?: number
    }
  /** A write was acknowledged. */
  | { readonly _tag: "Written"; readonly key: string; readonly revision: string }
  /** A write was not. */
  | { readonly _tag: "Unwritten"; readonly why: string }
  /** It has left, or was refused to. */
  | { readonly _tag: "Left" | "Stays"; readonly why?: string }
  /** It ends, because of this. */
  | { readonly _tag: "Failed"; readonly why: string }

/** Tells it to write no more. */
export const quiet = "quiet"

/** Tells it to leave. */
export const leave = "leave"
