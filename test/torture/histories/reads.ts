/**
 * What gets find of single puts and deletes, and what time has to do with it.
 */
import { right, wrong } from "./notation.ts"

export const reads = [
  right("a get finds what was put before", "a 0-1 put x 1 | b 2-3 get x 1"),
  wrong("a get does not find what was put before", "a 0-1 put x 1 | b 2-3 get x -"),
  right("a get finds nothing where nothing was put", "a 0-1 get x -"),
  wrong("a get finds what nobody ever wrote", "a 0-1 get x 7"),
  wrong("a get finds what is only put later", "a 0-1 get x 1 | b 2-3 put x 1"),
  right("a get finds what was there in the beginning", "a 0-1 get x 0", { x: "0" }),
  wrong("a get does not find what was there in the beginning", "a 0-1 get x -", { x: "0" }),
  wrong("what was there in the beginning comes back", "a 0-1 put x 1 | a 2-3 get x 0", { x: "0" }),
  right("what was there in the beginning is found until a put is over", "a 0-9 put x 1 | b 1-2 get x 0", { x: "0" }),
  wrong("another key has what was put", "a 0-1 put x 1 | b 2-3 get y 1"),
  wrong("another group has what was put", "a 0-1 put x 1 | b 2-3 get h/x 1"),
  right(
    "groups have nothing to do with each other",
    "a 0-1 put x 1 | b 0-1 put h/x 2 | a 2-3 get x 1 | b 2-3 get h/x 2"
  ),
  wrong("only the second of two groups is wrong", "a 0-1 put x 1 | b 2-3 get x 1 | a 4-5 put h/x 2 | b 6-7 get h/x -"),
  wrong("an old value is found after a new one was put", "a 0-1 put x 1 | a 2-3 put x 2 | b 4-5 get x 1"),
  right("the newest of three values is found", "a 0-1 put x 1 | a 2-3 put x 2 | a 4-5 put x 3 | b 6-7 get x 3"),
  right("a get while a put goes on finds the new value", "a 0-1 put x 1 | a 2-9 put x 2 | b 3-4 get x 2"),
  right("a get while a put goes on finds the old value", "a 0-1 put x 1 | a 2-9 put x 2 | b 3-4 get x 1"),
  right(
    "gets while a put goes on find the old and then the new value",
    "a 0-1 put x 1 | a 2-9 put x 2 | b 3-4 get x 1 | b 5-6 get x 2"
  ),
  wrong(
    "gets while a put goes on find the new and then the old value",
    "a 0-1 put x 1 | a 2-9 put x 2 | b 3-4 get x 2 | b 5-6 get x 1"
  ),
  wrong(
    "one client has seen the new value before another sees the old one",
    "a 0-1 put x 1 | a 2-9 put x 2 | b 3-4 get x 2 | c 5-6 get x 1"
  ),
  right(
    "two gets at the same time find the new and the old value",
    "a 0-1 put x 1 | a 2-9 put x 2 | b 3-6 get x 2 | c 5-8 get x 1"
  ),
  right(
    "the later of two puts at the same time may be either: the one",
    "a 0-5 put x 1 | b 0-5 put x 2 | c 6-7 get x 1"
  ),
  right(
    "the later of two puts at the same time may be either: the other",
    "a 0-5 put x 1 | b 0-5 put x 2 | c 6-7 get x 2"
  ),
  wrong(
    "two clients do not agree which of two puts was the last",
    "a 0-5 put x 1 | b 0-5 put x 2 | c 6-7 get x 1 | d 6-7 get x 2"
  ),
  wrong("two puts alternate", "a 0-9 put x 1 | b 0-9 put x 2 | c 1-2 get x 1 | c 3-4 get x 2 | c 5-6 get x 1"),
  wrong(
    "two clients have seen two puts in different orders",
    "a 0-9 put x 1 | b 0-9 put x 2 | c 1-2 get x 1 | c 3-4 get x 2 | d 1-2 get x 2 | d 3-4 get x 1"
  ),
  right(
    "two clients have seen two puts in the same order, each only a part of it",
    "a 0-9 put x 1 | b 0-9 put x 2 | c 1-2 get x 1 | c 3-6 get x 2 | d 1-2 get x 1 | d 5-6 get x 2"
  ),
  wrong("nothing is found after something was", "a 0-9 put x 1 | b 1-2 get x 1 | b 3-4 get x -"),
  right("nothing is found before something is", "a 0-9 put x 1 | b 1-2 get x - | b 3-4 get x 1"),
  right(
    "a value is overwritten before anybody sees it",
    "a 0-1 put x 1 | a 2-3 put x 2 | a 4-5 put x 3 | b 0-6 get x 3"
  ),
  right(
    "a get that takes long finds one of the values in between",
    "a 0-1 put x 1 | a 2-3 put x 2 | a 4-5 put x 3 | b 0-6 get x 2"
  ),
  wrong(
    "a get that takes long finds a value from before it began",
    "a 0-1 put x 1 | a 2-3 put x 2 | b 4-9 get x 1 | a 5-6 put x 3"
  ),
  right("a client reads its own write", "a 0-1 put x 1 | a 1-2 get x 1"),
  wrong("a client does not read its own write", "a 0-1 put x 1 | a 1.5-2 get x -"),

  right("a get that begins as a put ends may miss it", "a 0-1 put x 1 | b 1-2 get x -"),
  right("a get that begins as a put ends may see it", "a 0-1 put x 1 | b 1-2 get x 1"),
  right("a get that ends as a put begins may see it", "a 0-1 get x 1 | b 1-2 put x 1"),
  wrong("a get that begins right after a put has ended misses it", "a 0-1 put x 1 | b 1.001-2 get x -"),
  wrong("a get that ends right before a put begins sees it", "a 0-1 get x 1 | b 1.001-2 put x 1"),
  right(
    "operations that take no time at the same instant are in any order",
    "a 5-5 put x 1 | b 5-5 get x - | c 5-5 get x 1"
  ),
  wrong("operations that take no time are in the order of time", "a 5-5 put x 1 | b 6-6 get x -"),
  right(
    "a chain of operations at equal instants may go backwards",
    "a 3-3 get x 2 | b 3-3 put x 2 | c 3-3 get x 1 | d 3-3 put x 1"
  ),
  wrong(
    "what is at one instant is in one order all the same",
    "a 3-3 put x 1 | b 3-3 put x 2 | c 3-3 get x 1 | d 4-4 get x 2 | e 5-5 get x 1"
  ),
  right("two puts touch, and the first one wins", "a 0-1 put x 1 | b 1-2 put x 2 | c 3-4 get x 1"),
  wrong("two puts do not touch, and the first one wins", "a 0-1 put x 1 | b 1.5-2 put x 2 | c 3-4 get x 1"),
  right("instants need not begin at zero", "a 1000000.25-1000000.5 put x 1 | b 1000000.75-1000001 get x 1"),

  right("a key is gone after it was deleted", "a 0-1 put x 1 | a 2-3 del x | b 4-5 get x -"),
  wrong("a key is there after it was deleted", "a 0-1 put x 1 | a 2-3 del x | b 4-5 get x 1"),
  wrong("a key is gone, and nobody has deleted it", "a 0-1 put x 1 | b 2-3 get x 1 | b 4-5 get x -"),
  right("a key that is not there is deleted", "a 0-1 del x | b 2-3 get x -"),
  right("a key is deleted twice", "a 0-1 put x 1 | a 2-3 del x | b 2-3 del x | b 4-5 get x -"),
  right("a delete while a put goes on comes before it", "a 0-5 put x 1 | b 0-5 del x | c 6-7 get x 1"),
  right("a delete while a put goes on comes after it", "a 0-5 put x 1 | b 0-5 del x | c 6-7 get x -"),
  wrong(
    "a delete while a put goes on comes both before and after it",
    "a 0-5 put x 1 | b 0-5 del x | c 6-7 get x 1 | c 8-9 get x -"
  ),
  right(
    "a key is there, gone, and there again",
    "a 0-1 put x 1 | b 2-3 get x 1 | a 4-5 del x | b 6-7 get x - | a 8-9 put x 2 | b 10-11 get x 2"
  ),
  wrong(
    "a key that was deleted comes back with its old value",
    "a 0-1 put x 1 | b 2-3 get x 1 | a 4-9 del x | b 5-6 get x - | b 7-8 get x 1"
  ),
  right(
    "two deletes around one put explain two times of nothing",
    "a 0-1 put x 1 | a 2-9 del x | b 2-9 del x | c 3-4 get x - | d 4.5-5 put x 2 | c 6-7 get x 2 | c 8-10 get x -"
  ),
  wrong(
    "one delete cannot explain two times of nothing",
    "a 0-1 put x 1 | a 2-9 del x | c 3-4 get x - | d 4.5-5 put x 2 | c 6-7 get x 2 | c 8-10 get x -"
  ),
  right("a delete takes away what was there in the beginning", "a 0-1 del x | b 2-3 get x -", { x: "0" }),

  right("a refused put is not seen", "a 0-1! put x 1 | b 2-3 get x -"),
  wrong("a refused put is seen", "a 0-1! put x 1 | b 2-3 get x 1"),
  wrong("a refused delete has deleted", "a 0-1 put x 1 | a 2-3! del x | b 4-5 get x -"),
  right("a refused get says nothing", "a 0-1 put x 1 | b 2-3! get x"),
  right("a serializable get may be stale", "a 0-1 put x 1 | a 2-3 put x 2 | b 4-5 stale get x 1"),
  right("a serializable get may find what nobody wrote: others judge that", "a 0-1 stale get x 7"),
  wrong(
    "a get is stale beside a serializable one that is",
    "a 0-1 put x 1 | a 2-3 put x 2 | b 4-5 stale get x 1 | b 6-7 get x 1"
  )
]
