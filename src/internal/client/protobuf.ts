/**
 * What is needed of protobuf-es to read and write messages, beyond what their descriptors need: `codec.ts` loads it for
 * the first call, and not with the library.
 *
 * @internal
 */
export { create, fromBinary, toBinary } from "@bufbuild/protobuf"
