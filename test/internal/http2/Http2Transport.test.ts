import { http2Transport } from "../../../src/internal/http2/Http2Transport.ts"
import { etcdConformance } from "../grpc/etcdConformance.ts"

etcdConformance("http2", http2Transport)
