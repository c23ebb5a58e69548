/**
 * From a line to its event.
 *
 * @internal
 */

import type { Event, Line } from "../../EtcdLog.ts"
import * as Json from "../json.ts"
import { unparsed } from "./events.ts"
import { withoutSecrets } from "./secrets.ts"
import { otherText, raftText, serverText } from "./text.ts"
import { consoleLevel, zapConsole, zapJson } from "./zap.ts"

const eventOf = (line: string): Event => {
  const first = line.charCodeAt(0)
  if (first === 0x7b) {
    return zapJson(line)
  }
  if (first >= 0x30 && first <= 0x39) {
    return consoleLevel.test(line) ? zapConsole(line) : serverText(line)
  }
  return line.startsWith("raft2") ? raftText(line) : otherText(line)
}

export const parse = (given: string): Event => Json.answer(eventOf(withoutSecrets(given)))

export const fromLine = ({ omittedBytes, text }: Line): Event =>
  omittedBytes === 0 ? parse(text) : Json.answer(unparsed(withoutSecrets(text), omittedBytes))
