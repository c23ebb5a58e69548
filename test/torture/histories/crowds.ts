/**
 * Long histories, and such of many clients at once.
 */
import { right, wrong } from "./notation.ts"

const times = (count: number, text: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => text(index)).join(" | ")

/** Puts of 0 to `count` - 1 at the same time. */
const crowd = (count: number): string => times(count, (index) => `p${index} 0-100 put x ${index}`)

/** Gets one after the other, from an instant on. */
const seen = (from: number, ...values: ReadonlyArray<number | string>): string =>
  values.map((value, index) => `r ${from + 2 * index}-${from + 2 * index + 1} get x ${value}`).join(" | ")

/** A counter that goes from 0 to `count`, one cas after the other. */
const counter = (count: number): string =>
  times(count, (index) => `c${index % 3} ${2 * index}-${2 * index + 1} cas x ${index} ${index + 1} ok`)

export const crowds = [
  right("many puts at once are seen in some order", `${crowd(9)} | ${seen(1, 4, 2, 8, 0, 6)}`),
  wrong("many puts at once, and one is seen twice", `${crowd(9)} | ${seen(1, 4, 2, 8, 4)}`),
  right("many puts at once, and one is left", `${crowd(8)} | ${seen(101, 7, 7, 7)}`),
  wrong("many puts at once, and two are left", `${crowd(8)} | ${seen(101, 7, 3)}`),
  wrong("many puts at once, and nothing is left", `${crowd(8)} | ${seen(101, "-")}`),
  right("many puts and a delete at once, and nothing is left", `${crowd(8)} | d 0-100 del x | ${seen(101, "-")}`),
  right(
    "many puts and two deletes at once leave two gaps",
    `${crowd(6)} | d 0-100 del x | e 0-100 del x | ${seen(1, 0, "-", 1, "-", 2)}`
  ),
  wrong("many puts and a delete at once leave two gaps", `${crowd(6)} | d 0-100 del x | ${seen(1, 0, "-", 1, "-", 2)}`),
  right(
    "puts, deletes, cas and gets all at once",
    "a 0-9 put x 1 | b 0-9 cas x 1 2 ok | c 0-9 cas x 2 3 ok | d 0-9 get x 2 | e 0-9 del x | f 0-9 cas x - 4 ok | g 0-9 get x 4 | h 0-9 cas x 3 5 no"
  ),
  wrong(
    "puts, deletes, cas and gets all at once, and one create too many",
    "a 0-9 put x 1 | b 0-9 cas x 1 2 ok | c 0-9 cas x 2 3 ok | d 0-9 get x 2 | e 0-9 del x | f 0-9 cas x - 4 ok | g 0-9 cas x - 5 ok | h 0-9 cas x - 6 ok"
  ),
  right(
    "transactions of three keys all at once",
    "a 0-9 do put x 1, put y 1 | b 0-9 do get x 1, put z 1 | c 0-9 do get y 1, get z 1, put x 2 | d 0-9 do get x 2, get z 1"
  ),
  wrong(
    "transactions of three keys all at once, in a circle",
    "a 0-9 do put x 1, put y 1 | b 0-9 do get x 2, put z 1 | c 0-9 do get z 1, put x 2"
  ),

  right("a counter counts to forty", `${counter(40)} | r 100-101 get x 40`, { x: "0" }),
  wrong("a counter counts to forty, and somebody still sees 39", `${counter(40)} | r 100-101 get x 39`, { x: "0" }),
  wrong("a counter counts to forty, and one step is done by two", `${counter(40)} | d 0-100 cas x 20 21b ok`, {
    x: "0"
  }),
  right("a counter counts to forty, and one step is refused to another", `${counter(40)} | d 0-100 cas x 20 21b no`, {
    x: "0"
  }),
  right(
    "a counter counts to twenty, all at the same time",
    `${times(20, (index) => `c${index} 0-9 cas x ${19 - index} ${20 - index} ok`)} | r 10-11 get x 20`,
    { x: "0" }
  ),
  wrong(
    "a counter counts to twenty without its tenth step",
    `${times(20, (index) => (index === 9 ? "c 0-9 get x 0" : `c${index} 0-9 cas x ${index} ${index + 1} ok`))} | r 10-11 get x 20`,
    { x: "0" }
  ),
  right(
    "each put is seen until the next, a hundred times",
    times(
      100,
      (index) => `w ${4 * index}-${4 * index + 1} put x ${index} | r ${4 * index + 2}-${4 * index + 3} get x ${index}`
    )
  ),
  wrong(
    "each put is seen until the next, a hundred times, but for the very last",
    `${times(100, (index) => `w ${4 * index}-${4 * index + 1} put x ${index} | r ${4 * index + 2}-${4 * index + 3} get x ${index}`)} | r 500-501 get x 98`
  ),
  wrong(
    "each put is seen until the next, a hundred times, but for the very first",
    `r 0-1 get x 0 | ${times(100, (index) => `w ${4 * index + 10}-${4 * index + 11} put x ${index} | r ${4 * index + 12}-${4 * index + 13} get x ${index}`)}`
  ),
  right(
    "each put overlaps with the next, and gets see every other",
    `${times(40, (index) => `w${index} ${2 * index}-${2 * index + 3} put x ${index}`)} | ${times(20, (index) => `r ${4 * index + 2}-${4 * index + 3} get x ${2 * index}`)}`
  ),
  wrong(
    "each put overlaps with the next, and one is seen after the next but one",
    `${times(40, (index) => `w${index} ${2 * index}-${2 * index + 3} put x ${index}`)} | r 46-47 get x 22 | s 47.5-48 get x 20`
  ),
  right(
    "one put is open all the time, and is seen at the end",
    `o 0-999 put x open | ${times(40, (index) => `w ${2 * index}-${2 * index + 1} put x ${index}`)} | r 500-501 get x open`
  ),
  wrong(
    "one put is open all the time, and is seen at the beginning and at the end",
    `o 0-999 put x open | r 0.1-0.2 get x open | ${times(40, (index) => `w ${2 * index + 1}-${2 * index + 2} put x ${index}`)} | r 500-501 get x open`
  ),
  right(
    "many clients fail all at once, and one does not",
    `a 0-1 put x 1 | b 2-9 cas x 1 2 ok | ${times(20, (index) => `f${index} 3-${10 + index} cas x 1 f${index} no 2`)}`
  ),
  wrong(
    "many clients fail all at once, and nobody does not",
    `a 0-1 put x 1 | ${times(8, (index) => `f${index} 3-${10 + index} cas x 1 f${index} no`)}`
  ),
  right(
    "sums of a bank stay the same while money goes in a circle",
    `a 0-1 do put x 10, put y 20 | ${times(10, (index) => `b ${2 * index + 2}-${2 * index + 3} yes if x=${10 + index} y=${20 + index} then put x ${11 + index}, put y ${21 + index} | r${index} ${2 * index + 2}-${2 * index + 3.5} do get x ${11 + index}, get y ${21 + index}`)}`
  ),
  wrong(
    "a sum of a bank is one of two moments",
    `a 0-1 do put x 10, put y 20 | ${times(10, (index) => `b ${2 * index + 2}-${2 * index + 3} yes if x=${10 + index} y=${20 + index} then put x ${11 + index}, put y ${21 + index}`)} | r 0-99 do get x 15, get y 26`
  ),
  wrong(
    "one key of many groups is stale",
    `${times(10, (index) => `a ${2 * index}-${2 * index + 1} put g${index}/x 1 | b ${2 * index}-${2 * index + 1} get g${index}/y -`)} | c 100-101 get g7/x -`
  ),
  right(
    "many groups at once, each for itself",
    times(
      10,
      (index) => `a${index} 0-9 put g${index}/x 1 | b${index} 0-9 get g${index}/x ${index % 2 === 0 ? "-" : "1"}`
    )
  )
]
