/**
 * What is built on a client alone, for programs that run in several places at once.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

export * as EtcdBarrier from "./EtcdBarrier.ts"
export * as EtcdElection from "./EtcdElection.ts"
export * as EtcdLock from "./EtcdLock.ts"
export * as EtcdMirror from "./EtcdMirror.ts"
export * as EtcdRegistry from "./EtcdRegistry.ts"
export * as EtcdSemaphore from "./EtcdSemaphore.ts"
export * as EtcdSession from "./EtcdSession.ts"
export * as EtcdStm from "./EtcdStm.ts"
