/**
 * Comparisons, and several keys at once.
 */
import { right, wrong } from "./notation.ts"

export const transactions = [
  right("a cas replaces what is there", "a 0-1 put x 1 | b 2-3 cas x 1 2 ok | c 4-5 get x 2"),
  wrong("a cas replaces what is not there", "a 0-1 put x 1 | b 2-3 cas x 9 2 ok"),
  wrong("a cas fails where its value is there", "a 0-1 put x 1 | b 2-3 cas x 1 2 no"),
  right("a cas fails where its value is not there", "a 0-1 put x 1 | b 2-3 cas x 9 2 no"),
  wrong("a cas that failed has written", "a 0-1 put x 1 | b 2-3 cas x 9 2 no | c 4-5 get x 2"),
  wrong("a cas that succeeded has not written", "a 0-1 put x 1 | b 2-3 cas x 1 2 ok | c 4-5 get x 1"),
  wrong("two cas at the same time replace the same value", "a 0-1 put x 1 | b 2-9 cas x 1 2 ok | c 2-9 cas x 1 3 ok"),
  right("of two cas at the same time one fails", "a 0-1 put x 1 | b 2-9 cas x 1 2 ok | c 2-9 cas x 1 3 no"),
  right(
    "of two cas at the same time one fails and finds what the other wrote",
    "a 0-1 put x 1 | b 2-9 cas x 1 2 ok | c 2-9 cas x 1 3 no 2"
  ),
  wrong(
    "of two cas at the same time one fails and finds what it was looking for",
    "a 0-1 put x 1 | b 2-9 cas x 1 2 ok | c 2-9 cas x 1 3 no 1"
  ),
  wrong(
    "a cas fails with a value that was overwritten before it began",
    "a 0-1 put x 1 | a 2-3 put x 2 | b 4-5 cas x 9 3 no 1"
  ),
  right("a cas hands over to a cas at the same time", "a 0-1 put x 1 | b 2-9 cas x 2 3 ok | c 2-9 cas x 1 2 ok"),
  wrong("a cas hands over to one that was over", "a 0-1 put x 1 | b 2-3 cas x 2 3 ok | c 4-5 cas x 1 2 ok"),
  wrong("two cas wait for each other", "a 0-9 cas x 1 2 ok | b 0-9 cas x 2 1 ok"),
  right(
    "two cas lead in a circle, back to the beginning",
    "a 0-9 cas x 1 2 ok | b 0-9 cas x 2 1 ok | c 10-11 get x 1",
    { x: "1" }
  ),
  wrong(
    "two cas lead in a circle, and stop in the middle of it",
    "a 0-9 cas x 1 2 ok | b 0-9 cas x 2 1 ok | c 10-11 get x 2",
    { x: "1" }
  ),
  right(
    "a put that nobody finds takes long, and is why a cas failed",
    "a 0-1 put x 5 | o 2-9 put x 6 | b 3-4 put x 1 | c 5-6 cas x 1 2 no"
  ),
  wrong(
    "a put that nobody finds is over too early to be why a cas failed",
    "a 0-1 put x 5 | o 2-2.5 put x 6 | b 3-4 put x 1 | c 5-6 cas x 1 2 no"
  ),
  wrong("an increment is lost", "a 0-1 put x 1 | b 2-3 cas x 1 2 ok | c 4-5 cas x 1 3 ok"),
  wrong(
    "an update is lost between a get and a put of the same transaction",
    "a 0-1 put x 1 | b 2-9 do get x 1, put x 2 | c 2-9 do get x 1, put x 3"
  ),
  right(
    "updates that get and put follow each other",
    "a 0-1 put x 1 | b 2-9 do get x 3, put x 2 | c 2-9 do get x 1, put x 3"
  ),
  right("a create finds nothing", "a 0-1 cas x - 1 ok | b 2-3 get x 1"),
  wrong("two creates find nothing", "a 0-1 cas x - 1 ok | b 2-3 cas x - 2 ok"),
  right(
    "two creates find nothing, as there is a delete between",
    "a 0-1 cas x - 1 ok | b 2-9 cas x - 2 ok | c 2-9 del x"
  ),
  wrong("a create fails where there is nothing", "a 0-1 cas x - 1 no"),
  right("a create fails where there is something", "a 0-1 put x 1 | b 2-3 cas x - 2 no 1"),
  right(
    "a lock is taken, given back, and taken by the next",
    "a 0-1 cas x - a1 ok | b 2-3 cas x - b1 no a1 | a 4-5 yes if x=a1 then del x | b 6-7 cas x - b2 ok | c 8-9 get x b2"
  ),
  wrong(
    "a lock is given back by who does not have it",
    "a 0-1 cas x - a1 ok | b 2-3 yes if x=b1 then del x | a 4-5 get x a1"
  ),
  right("a cas of nothing by nothing but a failed one", "a 0-1 cas x 1 2 no -"),

  right("a transaction writes two keys", "a 0-1 do put x 1, put y 1 | b 2-3 do get x 1, get y 1"),
  wrong("a transaction writes one of two keys", "a 0-1 do put x 1, put y 1 | b 2-3 do get x 1, get y -"),
  wrong(
    "one get sees a half of a transaction while it goes on",
    "a 0-9 do put x 1, put y 1 | b 1-2 do get x 1, get y -"
  ),
  wrong(
    "two gets see one key after, and the other before",
    "a 0-9 do put x 1, put y 1 | b 1-2 get x 1 | b 3-4 get y -"
  ),
  right(
    "two gets see one key before, and the other after",
    "a 0-9 do put x 1, put y 1 | b 1-2 get x - | b 3-4 get y 1"
  ),
  wrong(
    "a read is fractured across two transactions at the same time",
    "a 0-9 do put x 1, put y 1 | b 0-9 do put x 2, put y 2 | c 1-8 do get x 1, get y 2"
  ),
  wrong(
    "two keys end up with the halves of two transactions",
    "a 0-9 do put x 1, put y 1 | b 0-9 do put x 2, put y 2 | c 10-11 get x 1 | c 12-13 get y 2"
  ),
  right(
    "two keys end up with two transactions that share one of them",
    "a 0-9 do put x 1, put y 1 | b 0-9 do put y 2, put z 2 | c 10-11 do get x 1, get y 2, get z 2"
  ),
  wrong(
    "three transactions overwrite each other in a circle",
    "a 0-9 do put x 1, put y 1 | b 0-9 do put y 2, put z 2 | c 0-9 do put z 3, put x 3 | d 10-11 do get x 1, get y 2, get z 3"
  ),
  right(
    "three transactions overwrite each other in a row",
    "a 0-9 do put x 1, put y 1 | b 0-9 do put y 2, put z 2 | c 0-9 do put z 3, put w 3 | d 10-11 do get x 1, get y 2, get z 3, get w 3"
  ),
  wrong(
    "what a transaction is about to write is seen before it is refused",
    "a 0-9! do put x 1, put y 1 | b 1-2 get x 1"
  ),
  wrong(
    "a value is seen that was overwritten within its transaction's time by nobody but itself",
    "a 0-9 yes if y=- then put x 1, put y 1 | b 1-2 do get x 1, get y -"
  ),
  right(
    "a transaction moves a value",
    "a 0-1 put x 1 | b 2-3 yes if x=1 then del x, put y 1b | c 4-5 do get x -, get y 1b"
  ),
  wrong(
    "a value is in two places while it is moved",
    "a 0-1 put x 1 | b 2-9 do del x, put y 2 | c 3-4 do get x 1, get y 2"
  ),
  wrong("a value is nowhere while it is moved", "a 0-1 put x 1 | b 2-9 do del x, put y 2 | c 3-4 do get x -, get y -"),
  right(
    "two gets look at both places while a value is moved, and see it nowhere",
    "a 0-1 put x 1 | b 2-9 do del x, put y 2 | c 3-4 get y - | c 5-6 get x -"
  ),
  wrong(
    "two gets look at both places in the other order, and see it nowhere",
    "a 0-1 put x 1 | b 2-9 do del x, put y 2 | c 3-4 get x - | c 5-6 get y -"
  ),
  right(
    "a get and a put in one transaction: it finds what was before",
    "a 0-1 put x 1 | b 2-3 do get x 1, put x 2 | c 4-5 get x 2"
  ),
  wrong("a get and a put in one transaction: it finds what it puts", "a 0-1 put x 1 | b 2-3 do get x 2, put x 2"),
  right("a get and a delete in one transaction", "a 0-1 put x 1 | b 2-3 do get x 1, del x | c 4-5 get x -"),
  wrong("one transaction finds two values of one key", "a 0-9 put x 1 | b 0-9 do get x 1, get x -"),
  right("one transaction finds the value of one key twice", "a 0-9 put x 1 | b 0-9 do get x 1, get x 1"),

  wrong(
    "write skew: both have seen the other on duty, and both go",
    "a 2-9 yes if x=in y=in then put x out1 | b 2-9 yes if x=in y=in then put y out2",
    { x: "in", y: "in" }
  ),
  right(
    "no write skew: the second one sees that the first has gone",
    "a 2-9 yes if x=in y=in then put x out1 | b 2-9 no if x=in y=in then put y out2 else get x out1, get y in",
    { x: "in", y: "in" }
  ),
  wrong(
    "write skew with gets: each finds what the other overwrites",
    "a 0-1 do put x 1, put y 1 | b 2-9 do get x 1, put y 2 | c 2-9 do get y 1, put x 2"
  ),
  right(
    "what would be write skew is none, if one finds what the other wrote",
    "a 0-1 do put x 1, put y 1 | b 2-9 do get x 2, put y 2 | c 2-9 do get y 1, put x 2"
  ),
  wrong("each of two transactions finds what the other wrote", "b 0-9 do get x 1, put y 1 | c 0-9 do get y 1, put x 1"),
  wrong(
    "a read-only transaction sees two writers in an order that another one cannot have",
    "a 0-9 put x 1 | b 0-9 put y 1 | c 0-9 do get x 1, get y - | d 0-9 do get x -, get y 1"
  ),
  right(
    "two read-only transactions see two writers in the same order",
    "a 0-9 put x 1 | b 0-9 put y 1 | c 0-9 do get x 1, get y - | d 0-9 do get x 1, get y 1"
  ),
  wrong(
    "two clients see two keys change in different orders",
    "a 0-9 put x 1 | b 0-9 put y 1 | c 1-2 get x 1 | c 3-4 get y - | d 1-2 get y 1 | d 3-4 get x -"
  ),
  wrong(
    "store buffering: both write, and neither sees the other",
    "a 0-1 put x 1 | a 2-3 get y - | b 0-1 put y 1 | b 2-3 get x -"
  ),
  right(
    "store buffering is none where the gets are at the time of the puts",
    "a 0-9 put x 1 | c 0-1 get y - | b 0-9 put y 1 | d 0-1 get x -"
  ),
  wrong(
    "a message is there before what it tells of",
    "a 0-1 put x data | a 2-3 put y ready | b 0-1.5 get x - | b 4-5 get y ready | b 6-7 get x -"
  ),
  right(
    "a message is there, and what it tells of too",
    "a 0-1 put x data | a 2-3 put y ready | b 2-4 get y ready | b 5-6 get x data"
  ),

  right("a failed branch writes", "a 0-1 put x 1 | b 2-3 no if x=9 then put x 2 else put x 3 | c 4-5 get x 3"),
  wrong(
    "a failed branch and the other one write",
    "a 0-1 put x 1 | b 2-3 no if x=9 then put y 2 else put x 3 | c 4-5 do get x 3, get y 2"
  ),
  wrong("a failed branch does not write", "a 0-1 put x 1 | b 2-3 no if x=9 then put x 2 else put x 3 | c 4-5 get x 1"),
  wrong(
    "all comparisons hold, and it failed",
    "a 0-1 do put x 1, put y 1 | b 2-3 no if x=1 y=1 then put x 2 else put x 3"
  ),
  right(
    "one of two comparisons does not hold",
    "a 0-1 do put x 1, put y 1 | b 2-3 no if x=1 y=2 then put x 2 else put x 3"
  ),
  wrong(
    "one of two comparisons does not hold, and it succeeded",
    "a 0-1 do put x 1, put y 1 | b 2-3 yes if x=1 y=2 then put x 2"
  ),
  wrong(
    "what a failed branch found says that all comparisons held",
    "a 0-1 do put x 1, put y 1 | b 2-3 put x 2 | c 2-9 no if x=1 y=1 then put z 1 else get x 1, get y 1"
  ),
  right(
    "what a failed branch found says which comparison did not hold",
    "a 0-1 do put x 1, put y 1 | b 2-3 put x 2 | c 2-9 no if x=1 y=1 then put z 1 else get x 2, get y 1"
  ),
  right(
    "what a failed branch found leaves open which comparison did not hold",
    "a 0-1 do put x 1, put y 1 | b 2-3 put x 2 | c 2-9 no if x=1 y=1 then put z 1 else get y 1"
  ),
  wrong("comparisons that cannot both hold did", "a 0-9 put x 1 | b 0-9 put x 2 | c 0-9 yes if x=1 x=2 then put y 1"),
  right(
    "comparisons that cannot both hold did not",
    "a 0-9 put x 1 | b 0-9 put x 2 | c 0-9 no if x=1 x=2 then put y 1"
  ),
  right("comparisons without writes are a read", "a 0-9 put x 1 | b 1-2 yes if x=- then | b 3-4 yes if x=1 then"),
  wrong(
    "comparisons without writes are a read that may be wrong",
    "a 0-9 put x 1 | b 1-2 yes if x=1 then | b 3-4 yes if x=- then"
  ),
  wrong("it failed, and its comparison held from the beginning", "a 0-1 no if x=1 then put y 1 else get x 1", {
    x: "1"
  })
]
