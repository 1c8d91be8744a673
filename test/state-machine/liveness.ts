import assert from 'node:assert/strict'
import { STEP } from './app.ts'
import { BEFORE_DELAY, blockOf, HARD_CAP, isGood, type Kind, MAX_DELAY, type ModelUser, verdictOf } from './model.ts'
import { beginBy, confirmBy } from './moves/factors.ts'
import { enter, present } from './moves/login.ts'
import type { Given } from './moves/move.ts'
import { changePassword, presentLink, requestLink } from './moves/recovery.ts'
import type { World } from './world.ts'

export type Way = 'password and phone' | 'password and backup code' | 'mailbox and password'
const DAY = 86_400
const SIXTY_DAYS = 60 * DAY

/**
 * The owner comes back with what `way` names, while the attacker rests. The bounds are those of the table "How long the
 * owner can be kept out" in docs/threat-model.md; what closes a way for good stands there as well.
 */
export async function ownerReturns(world: World, given: Given, way: Way): Promise<void> {
  const { user } = given
  const began = world.clock.now()
  const by = { ...given, isTwice: false }
  // Time that is not the attacker's doing: the server's clock was set back, and what was spent stays spent.
  const setBack = Math.max(0, world.highWater - began)
  const outcome = await ways[way](world, by)
  if (outcome === 'closed') return world.count(`closed to ${way}`)
  const took = world.clock.now() - began
  const bound = boundOf(world, way, outcome) + setBack
  assert.ok(took <= bound, `${way}: ${user.username} got in after ${took} s; ${bound} s are promised`)
  const key = `${way}, attacker with ${world.config.power}`
  world.waits[key] = Math.max(world.waits[key] ?? 0, took - setBack)
  world.count(`owner by ${way}`)
}

/** `total`: the 300 failures of 30 days hold the owner as well. */
type Outcome = 'in' | 'in after the total' | 'closed'

const ways: Record<Way, (world: World, given: Given) => Promise<Outcome>> = {
  'password and phone': byPhone,
  'password and backup code': byBackupCode,
  'mailbox and password': byMail,
}

function boundOf({ config }: World, way: Way, outcome: Outcome): number {
  if (outcome === 'in after the total') return SIXTY_DAYS + MAX_DELAY + config.delaySeconds + 3600
  if (way === 'mailbox and password') return MAX_DELAY + config.delaySeconds + 3600
  // The delay; of a phone whose clock was changed, what it takes to come past a later code, and two codes.
  return MAX_DELAY + 23 * STEP
}

async function byPhone(world: World, given: Given): Promise<Outcome> {
  const { user } = given
  if (!user.enabled) return enrollIfNeeded(world, given)
  if (isClosed(world, user, 'totp')) return 'closed'
  const outcome = await waitFor(world, given, 'totp')
  const phone = user.live[0]
  assert.ok(phone)
  const { on } = given
  const shown = () => Math.floor((on.now() + phone.app.offset) / STEP)
  // What was spent stays spent: the next code, or the first after the time to which the clock had been set.
  while (shown() <= phone.lastStep) world.clock.advance(STEP - (on.now() % STEP))
  const now = on.now()
  if (verdictOf([phone], phone.app.codeOf(shown()), now)?.isFar !== false) {
    // Its clock has changed, and two codes in a row are needed. After five wrong codes the first of the two sets a delay
    // that outlasts the second.
    if (user.failures.totp.consecutive >= BEFORE_DELAY) return 'closed'
    // A later code that was told of is kept, so the phone has to have come past it.
    while (shown() <= (phone.far ?? 0)) world.clock.advance(STEP)
  }
  for (let codes = 0; codes < 2; codes++) {
    if (await answerWith(world, given, { otp_code: phone.app.codeOf(shown()) })) return outcome
    const wait = user.failures.totp.blockedUntil - on.now()
    world.clock.advance(Math.max(STEP - (on.now() % STEP), wait))
  }
  const { drift, far, lastStep } = phone
  const seen = JSON.stringify({ offset: phone.app.offset, drift, far, lastStep, now: on.now() / STEP })
  assert.fail(`${user.username} has password and phone and does not get in: ${seen}`)
}

async function byBackupCode(world: World, given: Given): Promise<Outcome> {
  const { user } = given
  if (!user.enabled) return enrollIfNeeded(world, given)
  const [code] = user.unusedCodes
  if (code === undefined || isClosed(world, user, 'backup_code')) return 'closed'
  const outcome = await waitFor(world, given, 'backup_code')
  assert.ok(await answerWith(world, given, { backup_code: code }), `${user.username} has password and backup code`)
  return outcome
}

async function byMail(world: World, given: Given): Promise<Outcome> {
  const { user, on } = given
  if (!user.enabled) return enrollIfNeeded(world, given)
  if (blockOf(user, 'recovery_password', on.now()) === 'locked') {
    assert.equal(world.config.power, 'mailbox', 'a recovery is locked, and nobody but the owner reads the mail')
    // The guesses were at a password that is gone then.
    await changePassword(world, on, user, true)
  }
  const outcome = await waitFor(world, given, 'recovery_password')
  let token: string | null = null
  while (token === null) {
    token = await requestLink(world, on, user)
    if (token === null) world.clock.advance(Math.max(1, user.mails.until - on.now()))
  }
  world.clock.advance(Math.max(0, (world.links.get(token)?.worksFrom ?? 0) - on.now()))
  assert.ok(await presentLink(world, given, token, user.password), `${user.username} has mailbox and password`)
  const after = await enrollIfNeeded(world, given)
  return outcome === 'in' ? after : outcome
}

/** Without a second factor the password is enough, or the way leads through enrollment. */
async function enrollIfNeeded(world: World, given: Given): Promise<Outcome> {
  const { user, on, other } = given
  const entered = await enter(world, on, { user, door: 'jwt' })
  if (entered.outcome === 'session') return 'in'
  const enroller = { credential: `Bearer ${entered.token}`, session: null }
  assert.ok(await beginBy(world, on, { user, enroller, typed: null, other }), `${user.username} cannot begin to enroll`)
  const block = blockOf(user, 'totp', on.now())
  assert.notEqual(block, 'locked', `${user.username} must enroll and never can`)
  const outcome = await waitFor(world, given, 'totp')
  const known = world.enrollments.get(entered.token)
  if (outcome !== 'in' || !known || !isGood(known, on.now()) || (user.pending?.expiresAt ?? 0) <= on.now()) {
    await again()
  }
  assert.ok(user.pending)
  const code = user.pending.app.codeAt(on.now())
  assert.ok(await confirmBy(world, given, { enroller, code }), `${user.username} has a right first code`)
  const { outcome: login } = await enter(world, on, { user, door: 'jwt' })
  assert.equal(login, 'challenge')
  return outcome

  /** The wait was longer than the enrollment lives. */
  async function again() {
    const entered = await enter(world, on, { user, door: 'jwt' })
    assert.equal(entered.outcome, 'enrollment')
    assert.ok('token' in entered)
    enroller.credential = `Bearer ${entered.token}`
    assert.ok(await beginBy(world, on, { user, enroller, typed: null, other }))
  }
}

async function answerWith(world: World, given: Given, typed: { otp_code: string } | { backup_code: string }) {
  const { user, on } = given
  const entered = await enter(world, on, { user, door: 'jwt' })
  assert.equal(entered.outcome, 'challenge')
  assert.ok('token' in entered)
  return (await present(world, given, { token: entered.token, typed, door: 'jwt', trust: false })) !== null
}

/** By the hard cap, which only somebody with the password reaches; time does not help. */
function isClosed(world: World, user: ModelUser, kind: Kind): boolean {
  if (user.failures[kind].consecutive < HARD_CAP) return false
  assert.equal(world.config.power, 'password', `the hard cap of ${kind} without anybody who has the password`)
  return true
}

async function waitFor(world: World, { user, on }: Given, kind: Kind): Promise<Outcome> {
  let outcome: Outcome = 'in'
  for (;;) {
    const now = on.now()
    const block = blockOf(user, kind, now)
    if (block === 'free') return outcome
    assert.notEqual(block, 'locked')
    if (block === 'delayed') world.clock.advance(user.failures[kind].blockedUntil - now)
    else {
      outcome = 'in after the total'
      world.clock.advance(DAY)
    }
  }
}
