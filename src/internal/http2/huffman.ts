/**
 * The Huffman code of HPACK (RFC 7541, 5.2 and appendix B).
 *
 * The code is canonical: codes of one length are consecutive in the order of their symbols, and each length goes on
 * where the one before ended. So the lengths are all that needs to be written down, and the codes follow from them.
 *
 * Decoding goes through a table of states and half bytes: a state is an inner node of the code's tree, and each step of
 * four bits says which node comes next and whether a symbol was complete. No code is shorter than five bits, so there is
 * never more than one symbol in a step.
 *
 * @internal
 */

/** How many bits the code of each symbol has; the last symbol is the end of the string (EOS). */
const codeLengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26, 30
]

const endOfString = 256
const longestCode = 30

const codes = ((): Uint32Array => {
  const assigned = new Uint32Array(codeLengths.length)
  let next = 0
  for (let length = 1; length <= longestCode; length++) {
    next *= 2
    for (let symbol = 0; symbol < codeLengths.length; symbol++) {
      if (codeLengths[symbol] === length) assigned[symbol] = next++
    }
  }
  return assigned
})()

/** A node's two children: another node, or a symbol as `-1 - symbol`. */
type Tree = Array<[number, number]>

const buildTree = (): Tree => {
  const tree: Tree = [[0, 0]]
  for (let symbol = 0; symbol < codeLengths.length; symbol++) {
    let node = 0
    for (let bit = codeLengths[symbol]! - 1; bit >= 0; bit--) {
      const side = (codes[symbol]! >>> bit) & 1 ? 1 : 0
      if (bit === 0) tree[node]![side] = -1 - symbol
      else if (tree[node]![side] === 0) tree[node]![side] = tree.push([0, 0]) - 1
      node = tree[node]![side]!
    }
  }
  return tree
}

/** Flags of a step, above the 9 bits of the next state; the symbol is above them. */
const emits = 0x200
const fails = 0x400
const symbolShift = 11
const stateMask = 0x1ff

const makeSteps = (tree: Tree): Uint32Array => {
  const table = new Uint32Array(tree.length * 16)
  for (let state = 0; state < tree.length; state++) {
    for (let bits = 0; bits < 16; bits++) table[state * 16 + bits] = stepFrom(tree, state, bits)
  }
  return table
}

function stepFrom(tree: Tree, state: number, bits: number): number {
  let node = state
  let emitted = 0
  for (let bit = 3; bit >= 0; bit--) {
    const next = tree[node]![(bits >>> bit) & 1]!
    if (next === -1 - endOfString) return fails
    if (next < 0) {
      emitted = emits | ((-1 - next) << symbolShift)
      node = 0
    } else {
      node = next
    }
  }
  return emitted | node
}

/** The states in which a string may end: after at most seven bits of padding, all of them ones. */
const makeMayEnd = (tree: Tree): Uint8Array => {
  const accepted = new Uint8Array(tree.length)
  let node = 0
  for (let padding = 0; padding < 8; padding++) {
    accepted[node] = 1
    node = tree[node]![1]!
  }
  return accepted
}

let steps: Uint32Array = new Uint32Array(0)
let mayEnd: Uint8Array = new Uint8Array(0)

/** Not before there is something to read: it takes some milliseconds, and this module is loaded by who never connects. */
const makeTables = (): void => {
  const tree = buildTree()
  steps = makeSteps(tree)
  mayEnd = makeMayEnd(tree)
}

/** The string, one character a byte; `undefined` where the bytes are no such code. */
export const decode = (bytes: Uint8Array, start: number, end: number): string | undefined => {
  if (steps.length === 0) makeTables()
  const table = steps
  const decoded = Buffer.allocUnsafe((end - start) * 2)
  let length = 0
  let state = 0
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    for (let shift = 4; shift >= 0; shift -= 4) {
      const step = table[state * 16 + ((byte >>> shift) & 15)]!
      if ((step & fails) !== 0) return undefined
      if ((step & emits) !== 0) decoded[length++] = step >>> symbolShift
      state = step & stateMask
    }
  }
  return mayEnd[state] === 1 ? decoded.toString("latin1", 0, length) : undefined
}

/** How many bytes the string has when it is encoded. */
export const encodedLength = (text: string): number => {
  let bits = 0
  for (let at = 0; at < text.length; at++) bits += codeLengths[text.charCodeAt(at) & 0xff]!
  return (bits + 7) >>> 3
}

/** Writes the string, and returns where it ends. */
export const encode = (text: string, into: Uint8Array, start: number): number => {
  let at = start
  let pending = 0
  let pendingBits = 0
  for (let index = 0; index < text.length; index++) {
    const symbol = text.charCodeAt(index) & 0xff
    const code = codes[symbol]!
    for (let left = codeLengths[symbol]!; left > 0; ) {
      const taken = Math.min(left, 8 - pendingBits)
      pending = (pending << taken) | ((code >>> (left - taken)) & ((1 << taken) - 1))
      pendingBits += taken
      left -= taken
      if (pendingBits === 8) {
        into[at++] = pending
        pending = 0
        pendingBits = 0
      }
    }
  }
  if (pendingBits > 0) into[at++] = (pending << (8 - pendingBits)) | ((1 << (8 - pendingBits)) - 1)
  return at
}
