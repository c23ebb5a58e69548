import { http2Transport } from "../../../src/internal/http2/Http2Transport.ts"
import { transportConformance } from "../grpc/conformance.ts"

transportConformance("http2", http2Transport)
