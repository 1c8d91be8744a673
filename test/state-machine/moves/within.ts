import assert from 'node:assert/strict'
import { TotpError } from 'totp-kit'
import { App } from '../app.ts'
import { blockOf, fail, liftLock, PENDING_SECONDS, spend, succeed, switchOff, verdictOf } from '../model.ts'
import type { Process, World } from '../world.ts'
import type { Given, Move } from './move.ts'

/** Time enough for what waits for nobody, and no more than a step may take. */
const DEADLINE_MS = 250

/**
 * Changes within a transaction of the host's: kept with it, gone with it; a wrong code stays counted.
 * Where another transaction holds the user's row past the deadline, nothing has happened.
 */
export const changeWithin: Move = async (world, given) => {
  const { user, on, pick, other } = given
  if (world.storage.begin === null || other % 3 > 0) return false
  const isLate = pick % 6 === 1 && user.generation > 0
  const transaction = await world.storage.begin()
  const blocker = isLate ? await world.storage.begin() : null
  await blocker?.hold(user.id)
  const { keys, now } = on
  const store = transaction.within(isLate ? { deadlineMs: DEADLINE_MS } : undefined)
  const inside = { ...on, ...(await world.serviceOn(store, { keys, now, issuer: 'Acme', door: 'plain' })) }
  const how = pick % 3 === 0 ? 'ROLLBACK' : 'COMMIT'
  const deed = deeds[other % deeds.length] as Deed
  if (isLate) {
    await assert.rejects(
      inside.totp.credentialsChanged(user.id),
      (error) => error instanceof TotpError && error.code === 'unavailable',
    )
    world.clearErrors()
    // The host rolls back while our statement still waits on its connection: what would have come after must not be sent.
    const rolledBack = transaction.end('ROLLBACK')
    await blocker?.end('COMMIT')
    await rolledBack
    world.count('within: too late')
    return true
  }
  const settled = await deed(world, { ...given, on: inside })
  await transaction.end(how)
  if (how === 'COMMIT') settled.kept()
  else {
    settled.undone()
    world.adoptHostSessions(user)
  }
  world.count(`within: ${how}`)
  return true
}

interface Settled {
  kept(): void
  undone(): void
}

type Deed = (world: World, given: Given) => Promise<Settled>
const deeds: readonly Deed[] = [newPassword, switchOffWithin, enrollWithin, verifyWithin, guessWithin]
const nothing = () => undefined

async function newPassword(world: World, { user, on }: Given): Promise<Settled> {
  const now = on.now()
  await on.totp.credentialsChanged(user.id)
  return {
    kept() {
      succeed(user, 'recovery_password')
      world.raise(user, now, null)
    },
    undone: nothing,
  }
}

async function switchOffWithin(world: World, { user, on }: Given): Promise<Settled> {
  if (!user.enabled) return { kept: nothing, undone: nothing }
  const now = on.now()
  await on.totp.disableTotp(user.id)
  return {
    kept() {
      switchOff(user)
      world.raise(user, now, null)
    },
    undone: nothing,
  }
}

async function enrollWithin(world: World, { user, on, other }: Given): Promise<Settled> {
  if (user.enabled || blockOf(user, 'totp', on.now()) !== 'free') return { kept: nothing, undone: nothing }
  const now = on.now()
  const name = `phone ${now} ${other} ${world.seen.length}`
  // The pending enrollment is the host's to keep; only what comes after is within its transaction.
  const outside = world.processes[0] as Process
  const { uri } = await outside.totp.createTotpSetup({ id: user.id, accountName: user.username, name })
  liftLock(user)
  const app = new App(uri)
  const createdAt = outside.now()
  const times = { createdAt, expiresAt: createdAt + PENDING_SECONDS }
  const pending = { name, app, lastStep: -1, drift: 0, far: null, beganIn: null, ...times }
  user.pending = pending
  const { backupCodes: codes } = await on.totp.confirmTotpSetup(user.id, app.codeAt(now))
  return {
    kept() {
      const verdict = verdictOf([pending], app.codeAt(now), now)
      assert.ok(verdict && codes)
      spend(verdict, now)
      Object.assign(user, { enabled: true, live: [pending], unusedCodes: new Set(codes) })
      succeed(user, 'totp')
      world.raise(user, now, null)
    },
    undone: nothing,
  }
}

async function verifyWithin(_world: World, { user, on }: Given): Promise<Settled> {
  const now = on.now()
  const phone = user.live[0]
  const code = phone?.app.codeAt(now + phone.app.offset)
  const verdict = code === undefined ? null : verdictOf(user.live, code, now)
  const isGood = code !== undefined && verdict !== null && !verdict.isFar && verdict.step > verdict.phone.lastStep
  if (!isGood || blockOf(user, 'totp', now) !== 'free') return { kept: nothing, undone: nothing }
  await on.totp.verifyTotpCode(user.id, code)
  return {
    kept() {
      spend(verdict, now)
      succeed(user, 'totp')
    },
    undone: nothing,
  }
}

/** A wrong code is counted outside the transaction: a roll-back must not give guesses back. */
async function guessWithin(_world: World, { user, on, other }: Given): Promise<Settled> {
  const now = on.now()
  const code = String(other % 1_000_000).padStart(6, '0')
  if (!user.enabled || blockOf(user, 'totp', now) !== 'free' || verdictOf(user.live, code, now) !== null) {
    return { kept: nothing, undone: nothing }
  }
  await assert.rejects(
    on.totp.verifyTotpCode(user.id, code),
    (error) => error instanceof TotpError && error.code === 'invalid_code',
  )
  const counted = () => fail(user, 'totp', now)
  return { kept: counted, undone: counted }
}
