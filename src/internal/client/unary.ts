/**
 * Calls with one request and one answer.
 *
 * @internal
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Tracer from "effect/Tracer"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as Tracing from "../tracing.ts"
import * as Attempt from "./attempt.ts"
import { Batched } from "./batched.ts"
import * as Call from "./call.ts"
import * as Codec from "./codec.ts"
import type * as Credentials from "./credentials.ts"
import type { Engine } from "./engine.ts"
import * as Inquiry from "./inquiry.ts"
import { kindOf, methodOf } from "./rpcs.ts"
import * as Subchannel from "./subchannel.ts"
import * as Telemetry from "./telemetry.ts"

/** One of those who share a call has waited as long as it could; the call goes on. What that one does next goes elsewhere. */
const doubt = (engine: Engine, { attempt }: Call.Call): void => {
  if (attempt?.isUnderWay !== true || !Inquiry.isQuiet(engine, attempt.link)) return
  const blaming = Effect.asVoid(Subchannel.blame(attempt.link.subchannel, engine.environment, undefined))
  Subchannel.fork(engine.environment, blaming, { startImmediately: true })
}

const bytesHeard = ({ attempt }: Call.Call): number =>
  attempt?.isUnderWay === true ? attempt.link.connection.bytesHeard() : 0

export const make = (engine: Engine, credentials: Credentials.Credentials): EtcdClient.Client["unary"] => {
  const unary = <I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: EtcdClient.CallOptions = {}
  ): Effect.Effect<MessageShape<O>, EtcdError.EtcdError> =>
    Effect.withFiber((fiber) => {
      if (!Codec.isReady()) {
        return Effect.flatMap(Codec.ready(request), (request) => unary(descriptor, request, options))
      }
      const method = methodOf(descriptor)
      const encoded = Codec.encode(method, descriptor.input, request)
      if (Result.isFailure(encoded)) return Effect.fail(encoded.failure)
      const beginning = {
        engine,
        credentials,
        method,
        kind: kindOf(method, request),
        request: request as object,
        options,
        isStream: false,
        isAnswered: true
      }
      engine.environment.caller.context = fiber.context
      const start = (span: Tracer.Span | undefined) => {
        const begun = Call.begin(beginning, span)
        if (Result.isFailure(begun)) return Call.refused(span, begun.failure)
        const call = begun.success
        const batched = (options as Batched)[Batched]
        if (batched !== undefined) {
          batched.doubt = () => doubt(engine, call)
          batched.heard = () => bytesHeard(call)
        }
        const run = Attempt.exchange(engine, method, descriptor.output, encoded.success, fiber.context)
        return Call.performUnary(fiber, engine, call, run)
      }
      if (!Tracing.isTraced(fiber)) return start(undefined)
      // What they are is looked at when the call begins.
      const links = (options as Batched | null)?.[Batched]?.links
      return Telemetry.withSpan(fiber, method, links ?? [], start)
    })
  return unary
}
