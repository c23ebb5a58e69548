/**
 * etcd for Effect: run a node or a cluster as a scoped resource, talk to it, and build on it.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

export * as EtcdAuth from "./EtcdAuth.ts"
export * as EtcdBatch from "./EtcdBatch.ts"
export * as EtcdBinary from "./EtcdBinary.ts"
export * as EtcdClient from "./EtcdClient.ts"
export * as EtcdCluster from "./EtcdCluster.ts"
export * as EtcdConfig from "./EtcdConfig.ts"
export * as EtcdError from "./EtcdError.ts"
export * as EtcdId from "./EtcdId.ts"
export * as EtcdKv from "./EtcdKv.ts"
export * as EtcdLayer from "./EtcdLayer.ts"
export * as EtcdLease from "./EtcdLease.ts"
export * as EtcdLog from "./EtcdLog.ts"
export * as EtcdMaintenance from "./EtcdMaintenance.ts"
export * as EtcdMember from "./EtcdMember.ts"
export * as EtcdMemberError from "./EtcdMemberError.ts"
export * as EtcdMembership from "./EtcdMembership.ts"
export * as EtcdNamespace from "./EtcdNamespace.ts"
export * as EtcdOperationError from "./EtcdOperationError.ts"
export * as EtcdOperations from "./EtcdOperations.ts"
export * as EtcdProcess from "./EtcdProcess.ts"
export * as EtcdProcessError from "./EtcdProcessError.ts"
export * as EtcdResponse from "./EtcdResponse.ts"
export * as EtcdStore from "./EtcdStore.ts"
export * as EtcdTelemetry from "./EtcdTelemetry.ts"
export * as EtcdTxn from "./EtcdTxn.ts"
export * as EtcdWatch from "./EtcdWatch.ts"
export * as KeyRange from "./KeyRange.ts"
export * as Role from "./Role.ts"
