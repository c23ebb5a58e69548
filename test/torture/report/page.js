/*
 * What the page can do by itself: choose a window of time for all that is in the timeline, tell what was at a moment,
 * and draw and find single operations. Without it the page shows the whole run, and what is around violations.
 */

{
  const byId = (id) => document.getElementById(id)
  const data = JSON.parse(byId("data").textContent)
  const timeline = byId("lanes")
  const lanes = timeline.querySelector(".lanes")
  const least = 0.0005
  /** More than so many single operations in the window are a blot. */
  const mostSingle = 12_000
  const mostFound = 200
  const outcomes = ["answered", "not-applied", "unknown"]
  let from = 0
  let to = data.seconds

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value))
  const element = (name, properties = {}, children = []) => {
    const made = Object.assign(document.createElement(name), properties)
    made.append(...children)
    return made
  }

  // ── single operations ──

  /** Columns of all operations, once somebody wants them. */
  let operations
  let isUnpacking = false

  const unpack = async () => {
    if (operations !== undefined || isUnpacking) return
    isUnpacking = true
    if (typeof DecompressionStream === "undefined") {
      byId("drawn").textContent = "this browser cannot unpack single operations"
      return
    }
    const text = atob(byId("operations").textContent)
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0))
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))
    const columns = JSON.parse(await new Response(stream).text())
    const begun = new Float64Array(columns.begun.length)
    columns.begun.reduce((at, difference, index) => {
      begun[index] = (at + difference) / 100_000
      return at + difference
    }, 0)
    const perClient = columns.clients.map(() => [])
    for (let index = 0; index < begun.length; index++) perClient[columns.client[index]].push(index)
    operations = { ...columns, begun, ofClient: new Map(columns.clients.map((client, at) => [client, perClient[at]])) }
    mark()
    draw()
  }

  const isEndless = (index) => operations.took[index] === 0
  const endOf = (index) => operations.begun[index] + Math.max(0, operations.took[index] - 1) / 100_000

  const about = new Set(data.about)
  let marked = new Set()

  /** Those of a client that are in the window: its operations are one after the other. */
  const inWindow = (client) => {
    const all = operations.ofClient.get(client) ?? []
    let low = 0
    let high = all.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (operations.begun[all[middle]] < from) low = middle + 1
      else high = middle
    }
    const some = []
    // The one before may go on in the window.
    for (let at = Math.max(0, low - 1); at < all.length && operations.begun[all[at]] <= to; at++) some.push(all[at])
    return some
  }

  const areas = [...timeline.querySelectorAll(".operations .area")]

  const placesIn = (area) => {
    const width = area.clientWidth
    const xOf = (at) => ((at - from) / (to - from)) * width
    return inWindow(area.dataset.client).map((index) => {
      const x = xOf(operations.begun[index])
      const size = isEndless(index) ? 22 : Math.max(2, xOf(endOf(index)) - x)
      return { index, x, size }
    })
  }

  const drawLane = (area, colours) => {
    const canvas = area.querySelector("canvas")
    const ratio = window.devicePixelRatio || 1
    const { clientHeight: height, clientWidth: width } = area
    canvas.width = width * ratio
    canvas.height = height * ratio
    const pen = canvas.getContext("2d")
    pen.scale(ratio, ratio)
    for (const { index, size, x } of placesIn(area)) {
      const outcome = operations.outcome[index]
      pen.globalAlpha = marked.size > 0 && !marked.has(index) ? 0.2 : 1
      pen.fillStyle = colours[outcome]
      // A gap tells neighbours apart where there is room for it.
      const wide = size > 4 ? size - 1 : size
      if (outcome === 1) pen.fillRect(x, height * 0.55, wide, height * 0.45)
      else if (outcome === 0 || wide < 6) pen.fillRect(x, 2, wide, height - 3)
      else
        for (let stripe = 0; stripe < wide; stripe += 5)
          pen.fillRect(x + stripe, 2, Math.min(3, wide - stripe), height - 3)
      if (!about.has(operations.id[index])) continue
      pen.globalAlpha = 1
      pen.strokeStyle = colours.bad
      pen.lineWidth = 2
      pen.strokeRect(x, 1, Math.max(4, wide), height - 2)
      pen.fillStyle = colours.bad
      pen.font = "bold 11px system-ui, sans-serif"
      pen.fillText(`#${operations.id[index]}`, x + Math.max(4, wide) + 4, height - 8)
    }
  }

  const draw = () => {
    const isWhole = from === 0 && to === data.seconds
    let number = 0
    if (operations !== undefined) for (const area of areas) number += inWindow(area.dataset.client).length
    const isSingle = operations !== undefined && number <= mostSingle
    timeline.classList.toggle("single", isSingle)
    if (operations !== undefined) {
      byId("drawn").textContent = isSingle
        ? `${number.toLocaleString("en-US")} single operations: point at one to read it, click to keep it`
        : `${number.toLocaleString("en-US")} operations in the window, by density: single ones are drawn up to ${mostSingle.toLocaleString("en-US")}`
    } else if (!isWhole) unpack()
    if (!isSingle) return
    const style = getComputedStyle(document.documentElement)
    const colours = outcomes.map((outcome) => style.getPropertyValue(`--${outcome}`))
    colours.bad = style.getPropertyValue("--bad")
    for (const area of areas) drawLane(area, colours)
  }

  const words = (index) =>
    [
      `#${operations.id[index]} ${operations.clients[operations.client[index]]}, ${operations.begun[index].toFixed(5)} s`,
      operations.call[index],
      operations.result[index],
      tookWords(index)
    ].join("\n")

  const tookWords = (index) =>
    isEndless(index) ? "never ended, as its client was killed" : `${((operations.took[index] - 1) / 100).toFixed(2)} ms`

  // ── the window ──

  const ticks = () => {
    const most = (to - from) / 10
    const power = 10 ** Math.floor(Math.log10(most))
    const step = power * ([1, 2, 5].find((times) => power * times >= most) ?? 10)
    const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9))
    const all = []
    for (let at = Math.ceil(from / step - 1e-9); at * step <= to + step * 1e-9; at++) all.push(at * step)
    return { step, first: all[0] ?? 0, all: all.map((at) => [at, at.toFixed(decimals)]) }
  }

  let isDue = false

  const show = (newFrom, newTo) => {
    const span = clamp(newTo - newFrom, least, data.seconds)
    from = clamp(newFrom, 0, data.seconds - span)
    to = Number((from + span).toFixed(7))
    if (to > data.seconds - 1e-6) to = data.seconds
    if (isDue) return
    isDue = true
    requestAnimationFrame(() => {
      isDue = false
      const { all, first, step } = ticks()
      const properties = { from, span: to - from, step, first }
      for (const name in properties) timeline.style.setProperty(`--${name}`, properties[name])
      for (const drawing of timeline.querySelectorAll(".over-time")) {
        const [, , , height] = drawing.getAttribute("viewBox").split(" ")
        drawing.setAttribute("viewBox", `${from} 0 ${to - from} ${height}`)
      }
      for (const area of timeline.querySelectorAll(".axis .area")) {
        area.replaceChildren(
          ...all.map(([at, text]) => {
            const tick = element("span", { className: "tick", textContent: text })
            tick.style.setProperty("--a", at)
            return tick
          })
        )
      }
      const digits = clamp(3 - Math.floor(Math.log10(to - from)), 0, 5)
      byId("from").value = String(Number(from.toFixed(digits)))
      byId("to").value = String(Number(to.toFixed(digits)))
      const chosen = byId("chosen").style
      chosen.left = `${(from / data.seconds) * 100}%`
      chosen.width = `${((to - from) / data.seconds) * 100}%`
      draw()
    })
  }

  const byFactor = (factor, at = (from + to) / 2) => show(at - (at - from) * factor, at + (to - at) * factor)

  const actions = {
    earlier: () => show(from - (to - from) / 2, to - (to - from) / 2),
    later: () => show(from + (to - from) / 2, to + (to - from) / 2),
    closer: () => byFactor(0.5),
    wider: () => byFactor(2),
    whole: () => show(0, data.seconds)
  }

  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", actions[button.dataset.do])
  }
  for (const id of ["from", "to"]) {
    byId(id).addEventListener("change", () => {
      const [first, last] = [Number(byId("from").value), Number(byId("to").value)]
      if (first < last) show(first, last)
    })
  }
  for (const button of document.querySelectorAll(".to-timeline")) {
    button.hidden = false
    button.addEventListener("click", () => {
      show(Number(button.dataset.from), Number(button.dataset.to))
      byId("timeline").scrollIntoView()
    })
  }

  // ── what was at a moment ──

  const cursor = element("div", { id: "cursor", hidden: true })
  const picked = element("div", { id: "picked", hidden: true })
  lanes.append(cursor, picked)
  const tip = byId("tip")

  const momentWords = (at) => {
    const [answered, notApplied, unknown, p50, p99, max] = data.rates[clamp(Math.floor(at), 0, data.rates.length - 1)]
    const during = ([begun, ended]) => begun <= at && at < ended
    const leaders = data.roles.filter((role) => during(role) && role[3] === "leader")
    const faults = data.faults.filter(during)
    return [
      `${at.toFixed(to - from > 20 ? 1 : 4)} s`,
      leaders.length === 0 ? "no leader" : `leader ${leaders.map((role) => `${role[2]} (term ${role[4]})`).join(", ")}`,
      faults.map((fault) => fault[2]).join(", "),
      `this second: ${answered} answered, ${notApplied} not applied, ${unknown} unknown`,
      p50 === undefined ? "" : `p50 ${p50}, p99 ${p99}, max ${max}`
    ]
      .filter((part) => part !== "")
      .join("  ·  ")
  }

  const placeTip = (event, text) => {
    tip.hidden = text === undefined
    if (text === undefined) return
    tip.textContent = text
    const { height, width } = tip.getBoundingClientRect()
    tip.style.left = `${clamp(event.clientX + 14, 4, window.innerWidth - width - 4)}px`
    tip.style.top = `${event.clientY + 18 + height > window.innerHeight ? event.clientY - height - 12 : event.clientY + 18}px`
  }

  /** Fingers are not as exact, and two taps are two taps. */
  let isTouched = false

  /** The operation that is closest to the pointer, if one is close. */
  const operationAt = (area, event) => {
    if (!timeline.classList.contains("single") || area.dataset.client === undefined) return undefined
    const x = event.clientX - area.getBoundingClientRect().left
    const distanceOf = (place) => Math.max(place.x - x, x - place.x - place.size, 0)
    const closest = placesIn(area).reduce(
      (best, place) => (best === undefined || distanceOf(place) < distanceOf(best) ? place : best),
      undefined
    )
    return closest !== undefined && distanceOf(closest) <= (isTouched ? 12 : 4) ? closest.index : undefined
  }

  const areaOf = (event) => (event.target instanceof Element ? event.target.closest("#lanes .lanes .area") : null)
  const timeAt = (area, clientX) => {
    const { left, width } = area.getBoundingClientRect()
    return from + clamp((clientX - left) / width, 0, 1) * (to - from)
  }
  const within = (clientX) => clientX - lanes.getBoundingClientRect().left

  let drag

  const tell = (area, clientX) => {
    const { left, right } = area.getBoundingClientRect()
    cursor.hidden = false
    cursor.style.left = `${clamp(within(clientX), within(left), within(right))}px`
    byId("moment").textContent = momentWords(timeAt(area, clientX))
  }

  lanes.addEventListener("pointerdown", (event) => {
    const area = areaOf(event)
    if (area === null || event.button !== 0 || event.target.closest("a")) return
    isTouched = event.pointerType === "touch"
    drag = { area, x: event.clientX, at: timeAt(area, event.clientX) }
    tell(area, event.clientX)
  })

  lanes.addEventListener("pointermove", (event) => {
    const area = drag?.area ?? areaOf(event)
    if (area === null) {
      cursor.hidden = true
      return placeTip(event, undefined)
    }
    tell(area, event.clientX)
    const { left, right } = area.getBoundingClientRect()
    if (drag !== undefined && Math.abs(event.clientX - drag.x) > 4) {
      if (picked.hidden) lanes.setPointerCapture(event.pointerId)
      picked.hidden = false
      const [one, other] = [within(drag.x), clamp(within(event.clientX), within(left), within(right))]
      picked.style.left = `${Math.min(one, other)}px`
      picked.style.width = `${Math.abs(one - other)}px`
      return placeTip(event, undefined)
    }
    const index = operationAt(area, event)
    placeTip(event, index === undefined ? undefined : words(index))
  })

  const endDrag = (event) => {
    const begun = drag
    const hasMoved = !picked.hidden
    drag = undefined
    picked.hidden = true
    if (begun === undefined || event.type === "pointercancel") return
    if (hasMoved) {
      const at = timeAt(begun.area, event.clientX)
      // No finer than what can be pointed at.
      const grain = 10 ** Math.floor(Math.log10((to - from) / 500))
      const [one, other] = [at, begun.at].map((time) => Math.round(time / grain) * grain)
      return show(Math.min(one, other), Math.max(one, other))
    }
    const index = operationAt(begun.area, event)
    if (index !== undefined) keep(index)
  }

  lanes.addEventListener("pointerup", endDrag)
  lanes.addEventListener("pointercancel", endDrag)
  lanes.addEventListener("pointerleave", (event) => {
    cursor.hidden = true
    placeTip(event, undefined)
  })
  lanes.addEventListener("dblclick", (event) => {
    const area = areaOf(event)
    if (area !== null && !isTouched && operationAt(area, event) === undefined) actions.whole()
  })
  lanes.addEventListener(
    "wheel",
    (event) => {
      const area = areaOf(event)
      if (area === null || !(event.ctrlKey || event.altKey)) return
      event.preventDefault()
      byFactor(event.deltaY > 0 ? 1.25 : 0.8, timeAt(area, event.clientX))
    },
    { passive: false }
  )

  const strip = byId("overview")
  const move = (event) => {
    if (event.buttons === 0 && event.type === "pointermove") return
    const { left, width } = strip.getBoundingClientRect()
    const middle = ((event.clientX - left) / width) * data.seconds
    show(middle - (to - from) / 2, middle + (to - from) / 2)
  }
  strip.addEventListener("pointerdown", (event) => {
    strip.setPointerCapture(event.pointerId)
    move(event)
  })
  strip.addEventListener("pointermove", move)

  // ── operations that are found ──

  const rows = byId("found").querySelector("tbody")

  const row = (index) => {
    const [begun, ended] = [operations.begun[index], endOf(index)]
    const around = Math.max(0.02, (ended - begun) * 2)
    const link = element("button", { type: "button", textContent: `#${operations.id[index]}` })
    link.addEventListener("click", () => {
      show(begun - around, ended + around)
      byId("timeline").scrollIntoView()
    })
    return element("tr", {}, [
      element("td", {}, [link]),
      element("td", { textContent: operations.clients[operations.client[index]] }),
      element("td", { className: "number", textContent: `${begun.toFixed(5)} s` }),
      element("td", { className: "number", textContent: tookWords(index) }),
      element("td", {}, [element("code", { textContent: operations.call[index] })]),
      element("td", {}, [
        element("i", { className: `swatch ${outcomes[operations.outcome[index]]}` }),
        ` ${operations.result[index]}`
      ])
    ])
  }

  const found = (title, all) => {
    byId("found").hidden = title === ""
    byId("found-count").textContent = title
    rows.replaceChildren(...all.slice(0, mostFound).map(row))
  }

  const keep = (index) => {
    if (marked.size === 0) {
      byId("found").hidden = false
      byId("found-count").textContent = "that were clicked on, the last one first"
    }
    rows.prepend(row(index))
  }

  const mark = () => {
    const wanted = byId("mark").value.trim()
    if (wanted === "") {
      if (marked.size > 0) found("", [])
      marked = new Set()
      return draw()
    }
    if (operations === undefined) return unpack()
    const isWanted = /^#\d+$/.test(wanted)
      ? (index) => operations.id[index] === Number(wanted.slice(1))
      : (index) => operations.call[index].includes(wanted) || operations.result[index].includes(wanted)
    const all = operations.id.flatMap((_, index) => (isWanted(index) ? [index] : []))
    // Where there is none, all are pale.
    marked = new Set(all.length === 0 ? [-1] : all)
    const shown = all.length > mostFound ? `, the first ${mostFound} are listed` : ""
    found(`${all.length.toLocaleString("en-US")} with “${wanted}”${shown}`, all)
    draw()
  }

  let waiting
  byId("mark").addEventListener("input", () => {
    clearTimeout(waiting)
    waiting = setTimeout(mark, 200)
  })

  // ── the rest ──

  const copy = byId("copy")
  copy.hidden = navigator.clipboard === undefined
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("command").textContent)
    copy.textContent = "Copied"
  })

  const rates = timeline.querySelector(".plot path.answered")
  const outline = strip.querySelector("svg")
  outline.setAttribute("viewBox", `0 0 ${data.seconds} 1000`)
  outline.firstElementChild.setAttribute("d", rates.getAttribute("d"))

  byId("toolbar").hidden = false
  for (const hidden of document.querySelectorAll(".scripted")) hidden.hidden = false
  window.addEventListener("resize", draw)
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw)
  show(0, data.seconds)
}
