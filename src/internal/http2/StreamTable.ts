/**
 * The open streams of a connection by their ids.
 *
 * This is no `Map`, because of what the garbage collector makes of one whose entries come and go. V8 moves such a map to
 * a new table again and again, and each table points to the next. Once one of them has reached the old generation, every
 * minor collection takes the tables after it for alive, and with them all calls that they knew: a call then costs twice
 * as much and more. Here a stream has a place that is emptied when the stream goes.
 *
 * Ids go up by two, so streams that are opened one after the other have places one after the other. A stream that is
 * still open when its place is due again is one that lasts, and moves to the elders.
 *
 * @internal
 */
import type { Stream } from "./Stream.ts"

const fewestPlaces = 256

export class StreamTable {
  size = 0
  private places: Array<Stream | undefined> = new Array(fewestPlaces).fill(undefined)
  private readonly elders = new Map<number, Stream>()

  private placeOf(id: number): number {
    return (id >>> 1) & (this.places.length - 1)
  }

  get(id: number): Stream | undefined {
    const stream = this.places[this.placeOf(id)]
    return stream?.id === id ? stream : this.elders.get(id)
  }

  /** Puts a stream in whose id is higher than any before. */
  add(stream: Stream): void {
    const place = this.placeOf(stream.id)
    const elder = this.places[place]
    if (elder !== undefined) this.elders.set(elder.id, elder)
    this.places[place] = stream
    this.size++
    if (this.size * 2 > this.places.length) this.grow()
  }

  delete(id: number): boolean {
    const place = this.placeOf(id)
    if (this.places[place]?.id === id) this.places[place] = undefined
    else if (!this.elders.delete(id)) return false
    this.size--
    return true
  }

  /** All of them, oldest first. */
  values(): ReadonlyArray<Stream> {
    const recent = this.places.filter((stream) => stream !== undefined)
    return [...this.elders.values(), ...recent].sort((a, b) => a.id - b.id)
  }

  clear(): void {
    this.places.fill(undefined)
    this.elders.clear()
    this.size = 0
  }

  private grow(): void {
    const streams = this.values()
    this.clear()
    this.places = new Array(this.places.length * 4).fill(undefined)
    for (const stream of streams) this.add(stream)
  }
}
