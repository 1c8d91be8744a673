import type { Typed } from '../answers.ts'
import { STEP } from '../app.ts'
import type { ModelPhone, ModelUser } from '../model.ts'
import type { Process, World } from '../world.ts'

/** Whom a step concerns, and the numbers by which it chooses among what there is. */
export interface Given {
  user: ModelUser
  pick: number
  other: number
  isTwice: boolean
  /** The process that is asked. */
  on: Process
}

/** @returns false when there was nothing to do: another move takes its turn */
export type Move = (world: World, given: Given) => Promise<boolean>

/** `times` calls at once; by both processes, where their clocks agree. */
export function atOnce<T>(world: World, given: Given, call: (on: Process) => Promise<T>): Promise<T[]> {
  const { isTwice, on } = given
  if (!isTwice) return Promise.all([call(on)])
  const second = world.config.skew === 0 ? world.processes[1 - on.index] : on
  return Promise.all([call(on), call(second as Process)])
}

/** One of the latest, most often the very latest. */
export function late<T>(all: Iterable<T>, pick: number): T | undefined {
  const listed = [...all]
  return listed[listed.length - 1 - (pick % 3)] ?? listed[listed.length - 1]
}

/** A code as its owner types it: mostly right, sometimes mistyped, spent, early, or of another's. */
export function typedBy(world: World, { user, on, other }: Pick<Given, 'user' | 'on' | 'other'>): Typed {
  const unused = [...user.unusedCodes]
  if (other % 7 === 0 && unused.length > 0)
    return { backup_code: spelled(unused[other % unused.length] as string, other) }
  if (other % 41 === 0) return { backup_code: seenBy(world, other) }
  const phone = user.live[other % Math.max(1, user.live.length)]
  return { otp_code: phone ? typedFrom(phone, on.now(), other) : '424242' }
}

/** Early and late codes too: what was told of as far off must not become good by waiting. */
const OFFSETS = [-1, 1, -2, 4, -20, 5, -5]

export function typedFrom({ app, lastStep }: ModelPhone, now: number, other: number): string {
  if (other % 37 === 0) return '135790'
  const step = Math.floor((now + app.offset) / STEP)
  // Most often whoever has just used a code waits for the next one.
  const waited = step + (step === lastStep && other % 4 > 0 ? 1 : 0)
  return spelled(app.codeOf(waited + (OFFSETS[other % 25] ?? 0)), other)
}

/** As people may write it: the case and the spaces do not count. */
function spelled(code: string, other: number): string {
  return other % 5 === 0 ? `${code.slice(0, 3)} ${code.slice(3).toLowerCase()}` : code
}

export function seenBy({ seen }: World, n: number): string {
  const value = seen[n % seen.length] as string
  return value.length > 64 ? '654321' : value
}
