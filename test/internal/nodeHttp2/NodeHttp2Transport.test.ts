import { nodeHttp2Transport } from "../../../src/internal/nodeHttp2/NodeHttp2Transport.ts"
import { etcdConformance } from "../grpc/etcdConformance.ts"

etcdConformance("node:http2", nodeHttp2Transport)
