/**
 * What is needed of protobuf-es to read and write messages, beyond what their descriptors need: `messages.ts` loads it
 * before the first connection is made, and not with the library.
 *
 * @internal
 */
export { create, fromBinary, toBinary } from "@bufbuild/protobuf"
