import assert from 'node:assert/strict'
import { contextOf } from '../../src/flows/context.ts'
import {
  ACCESS_SECONDS,
  blockOf,
  fail,
  isFresh,
  judge,
  type Kind,
  type ModelSession,
  type ModelUser,
  provedNow,
  REFRESH_SECONDS,
  spend,
  succeed,
  verdictOf,
} from './model.ts'
import type { Process, Reply, World } from './world.ts'

export type Typed = { otp_code: string } | { backup_code: string }

export const codeIn = (typed: Typed) => ('otp_code' in typed ? typed.otp_code : typed.backup_code)
export const kindOf = (typed: Typed): 'totp' | 'backup_code' => ('otp_code' in typed ? 'totp' : 'backup_code')
/** A field open to both kinds tells them apart by their shape. */
export const byShape = (code: string): Typed =>
  /^[0-9]{1,8}$/.test(plain(code)) ? { otp_code: code } : { backup_code: code }
export const plain = (code: string) => code.replace(/[\s-]/g, '').toUpperCase()

export const isGoodReply = ({ status }: Reply) => status < 300
const codeOf = ({ body }: Reply) => String(body.code)
const WAITING = { delayed: 'too_many_attempts', total: 'too_many_attempts', locked: 'second_factor_locked' }

/**
 * Holds the answers to one code, typed once or several times at once, to the model. What was good and taken is used up,
 * and the attacker has seen it.
 *
 * @returns the answer that succeeded
 */
export async function holdCode(
  world: World,
  on: Process,
  asked: { user: ModelUser; typed: Typed; replies: Reply[]; what: string },
): Promise<Reply | null> {
  const { user, typed, replies, what } = asked
  const kind = kindOf(typed)
  const now = on.now()
  const good = replies.filter(isGoodReply)
  assert.ok(good.length <= 1, `${what}: one code worked twice`)
  const block = blockOf(user, kind, now)
  const isRefused = replies.every((reply) => ['too_many_attempts', 'second_factor_locked'].includes(codeOf(reply)))
  if (block !== 'free' && !(block === 'perhaps' && !isRefused)) {
    const due = block === 'perhaps' ? 'too_many_attempts' : WAITING[block]
    for (const reply of replies) assert.equal(codeOf(reply), due, `${what}: a ${kind} was answered while ${block}`)
    return null
  }
  const right = rightCode(user, typed, now)
  assert.equal(
    good.length === 1,
    right !== null,
    `${what}: a ${right ? 'good' : 'wrong or spent'} ${kind} of ${user.username} got ${replies.map(codeOf)}`,
  )
  const answered = replies.map(codeOf)
  const judged = answered.filter((code) => code === 'invalid_code').length
  if (right === null) {
    const verdict = kind === 'totp' ? verdictOf(user.live, plain(codeIn(typed)), now) : null
    const isReplay = isSpent(verdict)
    const isCounted = !isReplay || verdict?.isOffTime === true
    const due = new Set([isReplay ? 'code_already_used' : 'invalid_code'])
    // Where one of two at the same time is the last before a delay, the other has to wait.
    if (isCounted && replies.length > 1) due.add('too_many_attempts')
    // Its failure may have set the delay under which it cannot be settled again.
    if (isCounted) due.add('invalid_code')
    for (const code of answered) assert.ok(due.has(code), `${what}: ${code} instead of ${[...due]}`)
    if (kind === 'totp') judge(user.live, plain(codeIn(typed)), now)
    const failures = isCounted ? answered.filter((code) => code !== 'too_many_attempts').length : 0
    for (let n = 0; n < failures; n++) fail(user, kind, now)
    if (isReplay) {
      world.count(isCounted ? 'replay out of time' : 'replay')
      await holdReplay(on, user)
    }
    return null
  }
  right.use()
  world.seen.push(codeIn(typed))
  await settle(on, { user, kind, losers: replies.length - 1, judged })
  world.count(what)
  return good[0] as Reply
}

/** After a success the loser of a race may have been counted before or after it: both are allowed, one is true. */
export async function settle(
  on: Process,
  raced: { user: ModelUser; kind: Kind; losers: number; judged: number },
): Promise<void> {
  const { user, kind, losers, judged } = raced
  succeed(user, kind)
  if (losers === 0) return
  const count = user.failures[kind]
  const { store, policy } = contextOf(on.totp)
  const { consecutive } = await store.getFailureBudget(user.id, kind, on.now(), policy.failures)
  assert.ok(consecutive <= losers, `${consecutive} failures are left of ${losers} after a success`)
  count.consecutive = consecutive
  for (let n = 0; n < judged; n++) count.failedAt.push(on.now())
  count.perhaps += losers - judged
}

/** A replay costs no attempt, and sets no delay. */
async function holdReplay(on: Process, user: ModelUser): Promise<void> {
  const { store, policy } = contextOf(on.totp)
  const { consecutive, lockedUntil } = await store.getFailureBudget(user.id, 'totp', on.now(), policy.failures)
  assert.equal(consecutive, user.failures.totp.consecutive, 'a replay was counted')
  if (blockOf(user, 'totp', on.now()) === 'free') assert.equal(lockedUntil, null, 'a replay set a delay')
}

function isSpent(verdict: ReturnType<typeof verdictOf>): verdict is NonNullable<ReturnType<typeof verdictOf>> {
  return verdict !== null && !verdict.isFar && verdict.step <= verdict.phone.lastStep
}

function rightCode(user: ModelUser, typed: Typed, now: number): { use(): void } | null {
  const code = plain(codeIn(typed))
  if ('backup_code' in typed) {
    const own = [...user.unusedCodes].find((unused) => plain(unused) === code)
    return own === undefined ? null : { use: () => user.unusedCodes.delete(own) }
  }
  const verdict = verdictOf(user.live, code, now)
  if (verdict === null || verdict.isFar || isSpent(verdict)) return null
  return { use: () => spend(verdict, now) }
}

export function isAlive(session: ModelSession, now: number): boolean {
  return !session.ended && (session.expiresAt === null || session.expiresAt > now)
}

/**
 * What a proof in a session does to it: a host's own is raised, and one of our tokens goes on with the new ones that an
 * answer with a body holds. The old access token stays what it was.
 */
export function raiseSession(world: World, on: Process, session: ModelSession, { body }: Reply): void {
  const { user, tokens } = session
  const now = on.now()
  const proved = provedNow(user, now)
  if (tokens === null) {
    session.proved = proved
    return
  }
  if (body.access === undefined) return
  const { family } = tokens
  const refresh = String(body.refresh)
  assert.ok(family.alive && family.generation === user.generation && family.expiresAt > now, 'a dead family was raised')
  world.seen.push(family.living)
  family.living = refresh
  family.expiresAt = now + REFRESH_SECONDS
  const raised = { refresh, refreshUntil: family.expiresAt, family }
  const times = { expiresAt: now + ACCESS_SECONDS, proved }
  world.sessions.push({ ...session, ...times, credential: `Bearer ${body.access}`, tokens: raised })
  world.count('raise')
}

/**
 * Holds a request for a change to the model: 2FA is off, or a code came with it, or the session proved one lately.
 *
 * @returns whether the caller had leave, so that the rest of the answer is to be looked at
 */
export async function holdStepUp(
  world: World,
  on: Process,
  asked: { session: ModelSession; typed: Typed | null; reply: Reply; what: string },
): Promise<boolean> {
  const { session, typed, reply, what } = asked
  const { user } = session
  const code = codeOf(reply)
  if (!isAlive(session, on.now())) {
    assert.equal(code, 'unauthenticated', `${what} by a session that is over`)
    return false
  }
  if (!user.enabled) return true
  if (typed !== null) {
    const isTaken = isGoodReply(reply) || ['validation_failed', 'not_found', 'totp_not_set_up'].includes(code)
    const judged = isTaken ? { status: 200, body: {} } : reply
    const good = await holdCode(world, on, { user, typed: byShape(codeIn(typed)), replies: [judged], what })
    if (good !== null) raiseSession(world, on, session, reply)
    return good !== null
  }
  const fresh = isFresh(session, on.now())
  assert.equal(
    code === 'step_up_required',
    !fresh,
    `${what} in a ${fresh ? '' : 'not '}fresh ${session.kind} session: ${reply.status} ${code}`,
  )
  if (fresh) world.count(what)
  return fresh
}
