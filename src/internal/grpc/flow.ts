/**
 * How much may be under way to this side, whichever HTTP/2 carries it.
 *
 * A stream may have 2 MiB under way, which carries 100 MB/s over a round trip of 20 ms, and is also the most that a reader
 * who does not read can hold up, together with the messages that wait for it. The connection may have 16 MiB under way.
 * The frame size stays at 16 KiB, because grpc-go never sends larger ones.
 *
 * @internal
 */

export const streamWindowBytes = 2 * 1024 * 1024

export const connectionWindowBytes = 16 * 1024 * 1024
