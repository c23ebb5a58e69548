/**
 * The names of the sockets of members that live in one directory.
 *
 * @internal
 */

export const clientSocketOf = (name: string): string => `${name}.client:0`

export const peerSocketOf = (name: string): string => `${name}.peer:0`

export const peerUrlOf = (name: string): string => `unix://${peerSocketOf(name)}`
