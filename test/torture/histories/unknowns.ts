/**
 * Operations of which nobody knows whether they were done.
 */
import { right, wrong } from "./notation.ts"

/** Puts that nobody heard of again, one after the other. */
const lost = (count: number, from = 0): string =>
  Array.from({ length: count }, (_, index) => `l${index} ${from + index}-${from + index + 1}? put x lost${index}`).join(
    " | "
  )

/** Deletes that nobody heard of again. */
const lostDeletes = (count: number): string =>
  Array.from({ length: count }, (_, index) => `l${index} ${index}-${index + 1}? del x`).join(" | ")

export const unknowns = [
  right("an unknown put was done", "a 0-1? put x 1 | b 2-3 get x 1"),
  right("an unknown put was not done", "a 0-1? put x 1 | b 2-3 get x -"),
  right("an unknown put is done after a get that misses it", "a 0-1? put x 1 | b 2-3 get x - | b 4-5 get x 1"),
  wrong("an unknown put is undone", "a 0-1? put x 1 | b 2-3 get x 1 | b 4-5 get x -"),
  right("a put of a killed client was done", "a 0-? put x 1 | b 2-3 get x 1"),
  right("a put of a killed client is done long after", "a 0-? put x 1 | b 100-101 get x - | b 200-201 get x 1"),
  wrong("an unknown put was done before it began", "b 0-1 get x 1 | a 2-3? put x 1"),
  right("an unknown put begins as its value is found", "b 0-2 get x 1 | a 2-3? put x 1"),
  wrong(
    "an unknown put is done twice",
    "a 0-1? put x 1 | b 2-3 get x 1 | b 4-5 put x 2 | b 6-7 get x 2 | b 8-9 get x 1"
  ),
  right(
    "an unknown put lands late on what was put since",
    "a 0-1? put x 1 | b 2-3 put x 2 | b 4-5 get x 2 | b 6-7 get x 1"
  ),
  wrong(
    "an unknown put lands late, and what it overwrote comes back",
    "a 0-1? put x 1 | b 2-3 put x 2 | b 4-5 get x 2 | b 6-7 get x 1 | b 8-9 get x 2"
  ),
  right("an unknown put is overwritten before anybody sees it", "a 0-1? put x 1 | b 2-3 put x 2 | b 4-5 get x 2"),
  wrong("an unknown put does not excuse a stale get", "a 0-1 put x 1 | a 2-3 put x 2 | b 4-5? put x 3 | c 6-7 get x 1"),
  right(
    "two unknown puts are seen in the order of their beginning",
    "a 0-1? put x 1 | b 2-3? put x 2 | c 4-5 get x 1 | c 6-7 get x 2"
  ),
  right(
    "two unknown puts are seen against the order of their beginning",
    "a 0-1? put x 1 | b 2-3? put x 2 | c 4-5 get x 2 | c 6-7 get x 1"
  ),
  wrong(
    "two unknown puts are seen by turns",
    "a 0-1? put x 1 | b 2-3? put x 2 | c 4-5 get x 1 | c 6-7 get x 2 | c 8-9 get x 1"
  ),
  right("an unknown delete was done", "a 0-1 put x 1 | b 2-3? del x | c 4-5 get x -"),
  right("an unknown delete was not done", "a 0-1 put x 1 | b 2-3? del x | c 4-5 get x 1"),
  right("an unknown delete is done late", "a 0-1 put x 1 | b 2-3? del x | c 4-5 get x 1 | c 6-7 get x -"),
  wrong("an unknown delete is done before it began", "a 0-1 put x 1 | c 2-3 get x - | b 4-5? del x"),
  wrong("an unknown delete is undone", "a 0-1 put x 1 | b 2-3? del x | c 4-5 get x - | c 6-7 get x 1"),
  wrong(
    "one unknown delete deletes two values",
    "a 0-1 put x 1 | b 2-3? del x | c 4-5 get x - | a 6-7 put x 2 | c 8-9 get x -"
  ),
  right(
    "two unknown deletes delete two values",
    "a 0-1 put x 1 | b 2-3? del x | d 2-3? del x | c 4-5 get x - | a 6-7 put x 2 | c 8-9 get x -"
  ),
  wrong(
    "the second of two unknown deletes begins too late for the first value",
    "a 0-1 put x 1 | c 4-5 get x - | b 5.5-6? del x | d 5.5-6? del x"
  ),
  right(
    "of two unknown deletes the one that began first is done first",
    "a 0-1 put x 1 | b 2-3? del x | c 4-5 get x - | a 6-7 put x 2 | d 8-9? del x | c 10-11 get x -"
  ),
  right(
    "an unknown delete is not spent on a create that may come first, as a get needs it",
    "w 0-5 put x 1 | g 1-5 cas x - 3 ok | u 0-1? del x | r 6-7 get x -"
  ),
  wrong(
    "an unknown delete is spent on a create that comes second, and a get needs it",
    "w 0-1 put x 1 | g 2-5 cas x - 3 ok | u 0-1? del x | r 6-7 get x -"
  ),
  right("an unknown get says nothing", "a 0-1 put x 1 | b 2-3? get x | c 4-5 get x 1"),
  right("an unknown serializable get says nothing", "a 0-1 put x 1 | b 2-3? stale get x | c 4-5 get x 1"),
  right("a history of unknown operations only", "a 0-1? put x 1 | b 0-1? del x | c 0-? cas x 1 2"),

  right("an unknown cas was done", "a 0-1 put x 1 | b 2-3? cas x 1 2 | c 4-5 get x 2"),
  right("an unknown cas was not done", "a 0-1 put x 1 | b 2-3? cas x 1 2 | c 4-5 get x 1"),
  wrong(
    "an unknown cas was done, and its value was never there to be replaced",
    "a 0-1 put x 1 | b 2-3? cas x 9 2 | c 4-5 get x 2"
  ),
  wrong(
    "an unknown cas was done after its value was gone",
    "a 0-1 put x 1 | a 2-3 put x 5 | b 4-5? cas x 1 2 | c 6-7 get x 2"
  ),
  right(
    "a chain of unknown cas was done",
    "a 0-1 put x 1 | b 2-3? cas x 1 2 | c 2-3? cas x 2 3 | d 2-3? cas x 3 4 | e 4-5 get x 4"
  ),
  right(
    "a chain of unknown cas was done against the order of their beginning",
    "a 0-1 put x 1 | d 2-9? cas x 3 4 | c 3-9? cas x 2 3 | b 4-9? cas x 1 2 | e 5-6 get x 4"
  ),
  wrong(
    "a link is missing in a chain of unknown cas",
    "a 0-1 put x 1 | b 2-3? cas x 1 2 | d 2-3? cas x 3 4 | e 4-5 get x 4"
  ),
  wrong(
    "the first link of a chain of unknown cas begins too late",
    "a 0-1 put x 1 | c 2-3? cas x 2 3 | d 4-5 get x 3 | b 6-7? cas x 1 2"
  ),
  wrong(
    "two unknown cas of one value were both done",
    "a 0-1 put x 1 | b 2-3? cas x 1 2 | c 2-3? cas x 1 3 | d 4-5 get x 2 | d 6-7 get x 3"
  ),
  right(
    "an unknown cas has hidden a value from another that then failed",
    "a 0-1 put x 1 | b 2-3? cas x 1 2 | c 4-5 cas x 1 3 no"
  ),
  wrong("nothing has hidden a value from a cas that failed", "a 0-1 put x 1 | c 4-5 cas x 1 3 no"),
  right(
    "an unknown put whose value nobody found is why a cas failed",
    "a 0-1 put x 1 | b 2-3? put x 2 | c 4-5 cas x 1 3 no"
  ),
  wrong(
    "an unknown put that would be why a cas failed cannot have been: its value was not there before and after",
    "a 0-1 put x 1 | b 2-3? put x 2 | c 4-5 cas x 1 3 no | d 6-7 get x 1"
  ),
  wrong(
    "an unknown put that begins after a cas failed is not why",
    "a 0-1 put x 1 | c 2-3 cas x 1 3 no | b 4-5? put x 2"
  ),
  right("an unknown delete is why a cas failed", "a 0-1 put x 1 | b 2-3? del x | c 4-5 cas x 1 3 no"),
  right(
    "an unknown delete makes room for a create",
    "a 0-1 put x 1 | b 2-3? del x | c 4-5 cas x - 3 ok | d 6-7 get x 3"
  ),
  wrong(
    "one unknown delete makes room for two creates",
    "a 0-1 put x 1 | b 2-3? del x | c 4-5 cas x - 3 ok | d 6-7 cas x - 4 ok"
  ),
  right("an unknown create is why another failed", "a 0-1? cas x - 1 | b 2-3 cas x - 2 no"),
  wrong("a create failed, and there is nothing", "a 0-1? cas x 5 1 | b 2-3 cas x - 2 no"),
  right(
    "unknown creates: the one that was done is seen, the other comes to nothing",
    "a 0-1? cas x - 1 | b 0-1? cas x - 2 | c 2-3 get x 2 | c 4-5 get x 2"
  ),
  wrong(
    "unknown creates were both done without a delete",
    "a 0-1? cas x - 1 | b 0-1? cas x - 2 | c 2-3 get x 2 | c 4-5 get x 1"
  ),
  right(
    "unknown creates were both done with an unknown delete between",
    "a 0-1? cas x - 1 | b 0-1? cas x - 2 | d 0-1? del x | c 2-3 get x 2 | c 4-5 get x 1"
  ),

  right("an unknown transaction was done in whole", "a 0-1? do put x 1, put y 1 | b 2-3 get x 1 | b 4-5 get y 1"),
  wrong("an unknown transaction was done in part", "a 0-1? do put x 1, put y 1 | b 2-3 get x 1 | b 4-5 get y -"),
  right(
    "an unknown transaction is done between two gets",
    "a 0-1? do put x 1, put y 1 | b 2-3 get y - | b 4-5 get x 1"
  ),
  right(
    "an unknown transaction is seen in one key, and overwritten in the other",
    "a 0-1? do put x 1, put y 1 | b 2-3 put y 2 | c 4-5 do get x 1, get y 2"
  ),
  wrong(
    "an unknown transaction must be overwritten by what was over before",
    "c 0-1 put y 2 | c 2-3 do get x -, get y 2 | a 4-5? do put x 1, put y 1 | b 6-7 do get x 1, get y 2"
  ),
  right(
    "an unknown move is why a key is gone, and its value was overwritten in time",
    "a 0-1 put x 1 | b 2-9? do put y 2, del x | c 3-4 get x 1 | d 5-6 put y 3 | c 7-8 do get x -, get y 3"
  ),
  wrong(
    "an unknown move is why a key is gone, and its value was not overwritten in time",
    "a 0-1 put x 1 | b 2-9? do put y 2, del x | d 3-4 put y 3 | c 5-6 do get x 1, get y 3 | c 7-8 do get x -, get y 3"
  ),
  right(
    "an unknown transaction took the branch whose value was found: the failure",
    "a 0-1 put x 1 | b 2-3? if x=9 then put x 2 else put x 3 | c 4-5 get x 3"
  ),
  wrong(
    "an unknown transaction took the branch that it cannot have taken",
    "a 0-1 put x 1 | b 2-3? if x=9 then put x 2 else put x 3 | c 4-5 get x 2"
  ),
  wrong(
    "an unknown transaction took both branches",
    "a 0-1 put x 1 | b 2-3? if x=1 then put x 2 else put x 3 | c 4-5 get x 2 | c 6-7 get x 3"
  ),
  right(
    "an unknown transaction deletes in whichever branch it takes: before",
    "a 0-1 put x 1 | b 2-3? if y=1 then del x else del x | c 4-5 get x -"
  ),
  right(
    "an unknown put decides the branch of another unknown operation",
    "a 0-1 do put x 1, put y 1 | b 2-3? put y 2 | c 2-3? if y=2 then del x | d 4-5 get x -"
  ),
  wrong(
    "an unknown put that would decide the branch of another operation cannot have been done in between",
    "a 0-1 do put x 1, put y 1 | b 2-3? put y 2 | c 2-3? if y=2 then del x | d 4-5 do get x -, get y 1"
  ),
  right(
    "an unknown operation deletes one key as long as another has a value, which is then overwritten",
    "a 0-1 do put x 1, put y 1 | c 2-3? if y=1 then del x | d 4-5 put y 2 | e 6-7 get x -"
  ),
  wrong(
    "an unknown operation deletes one key after another has lost the value that it needs",
    "a 0-1 do put x 1, put y 1 | d 2-3 put y 2 | c 4-5? if y=1 then del x | e 6-7 get x -"
  ),
  right(
    "a refused operation beside an unknown one of the same client",
    "a 0-1! put x 1 | a 2-3? put x 2 | b 4-5 get x 2"
  ),

  right("ten lost puts disturb nobody", `${lost(10)} | a 0-1 put y 1 | b 30-31 get x - | b 32-33 get y 1`),
  wrong("ten lost puts do not excuse a stale get", `${lost(10)} | a 0-1 put y 1 | a 2-3 put y 2 | b 30-31 get y 1`),
  right("ten lost puts, and the last one is seen first", `${lost(10)} | b 30-31 get x lost9 | b 32-33 get x lost0`),
  wrong(
    "ten lost puts, and one of them is seen twice",
    `${lost(10)} | b 30-31 get x lost7 | b 32-33 get x lost3 | b 34-35 get x lost7`
  ),
  right("one of many lost puts is why a cas failed", `a 0-1 put x 1 | ${lost(30, 2)} | b 40-41 cas x 1 2 no`),
  wrong(
    "none of many lost puts is why a cas failed before they began",
    `a 0-1 put x 1 | b 2-3 cas x 1 2 no | ${lost(30, 4)}`
  ),
  right(
    "three of five lost deletes are needed",
    `${lostDeletes(5)} | a 10-11 put x 1 | b 12-13 get x - | a 14-15 put x 2 | b 16-17 get x - | a 18-19 put x 3 | b 20-21 get x -`
  ),
  wrong(
    "three of two lost deletes are needed",
    `${lostDeletes(2)} | a 10-11 put x 1 | b 12-13 get x - | a 14-15 put x 2 | b 16-17 get x - | a 18-19 put x 3 | b 20-21 get x -`
  )
]
