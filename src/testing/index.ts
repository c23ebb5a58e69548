/**
 * For tests of programs that use etcd.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

export * as EtcdClock from "./EtcdClock.ts"

export * as EtcdFaults from "./EtcdFaults.ts"
