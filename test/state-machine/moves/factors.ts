import assert from 'node:assert/strict'
import { codeIn, holdCode, holdStepUp, isAlive, isGoodReply, plain, raiseSession, settle } from '../answers.ts'
import { App } from '../app.ts'
import {
  blockOf,
  fail,
  isFresh,
  isGood,
  judge,
  liftLock,
  type ModelPhone,
  type ModelSession,
  type ModelUser,
  PENDING_SECONDS,
  spend,
  switchOff,
  verdictOf,
} from '../model.ts'
import { type Process, type Reply, VAULT_SECONDS, type World } from '../world.ts'
import { begun } from './login.ts'
import { atOnce, type Given, late, type Move, seenBy, typedBy, typedFrom } from './move.ts'

/** Who enrolls: a session, or the holder of an enrollment token. */
type Enroller = { credential: string; session: ModelSession | null }

function enrollerOf(world: World, { user, pick, on }: Given): Enroller | null {
  const own = [...world.enrollments].filter(([, token]) => token.user === user)
  const [token, known] = late(own, pick) ?? []
  const session = world.sessionOf(user, pick)
  if (token !== undefined && known && (session === undefined || (isGood(known, on.now()) && pick % 3 > 0))) {
    return { credential: `Bearer ${token}`, session: null }
  }
  return session ? { credential: session.credential, session } : null
}

/** Whether an enrollment token opens what it is for. */
function opensEnrollment(world: World, credential: string, now: number): boolean {
  const known = world.enrollments.get(credential.slice('Bearer '.length))
  return known !== undefined && isGood(known, now)
}

export const begin: Move = async (world, given) => {
  const { user, on, pick, other } = given
  const enroller = enrollerOf(world, given)
  if (enroller === null) return false
  const typed = pick % 2 === 0 ? typedBy(world, given) : null
  await beginBy(world, on, { user, enroller, typed, other })
  return true
}

/** @returns whether an enrollment is pending from then on */
export async function beginBy(
  world: World,
  on: Process,
  given: { user: ModelUser; enroller: Enroller; typed: ReturnType<typeof typedBy> | null; other: number },
): Promise<boolean> {
  const { user, enroller, typed, other } = given
  const { session, credential } = enroller
  const now = on.now()
  const name = `phone ${now} ${other} ${world.seen.length}`
  const beganIn = session === null ? credential : (session.tokens?.family ?? session)
  // Which of them may come again after the clock was set back, nobody knows.
  const resume = other % 3 === 0 && !user.mayHavePending
  const body = { name, ...(typed ? { input_code: codeIn(typed) } : {}), ...(resume ? { resume } : {}) }
  const reply = await world.call(on, 'POST', 'totp/create', body, { credential })
  if (session === null) {
    assert.equal(
      isGoodReply(reply),
      opensEnrollment(world, credential, now),
      'an enrollment token opens as long as it is good',
    )
    if (!isGoodReply(reply)) return false
  } else if (!(await holdStepUp(world, on, { session, typed, reply, what: 'begin' }))) return false
  assert.equal(reply.status, 201)
  const app = new App(String(reply.body.uri))
  const { pending } = user
  const isSame = pending !== null && pending.app.codeOf(0) === app.codeOf(0) && pending.app.codeOf(1) === app.codeOf(1)
  const isDue = resume && pending !== null && pending.beganIn === beganIn && pending.expiresAt > now
  assert.equal(isSame, isDue, `a secret was ${isSame ? '' : 'not '}handed out again`)
  if (isSame) {
    assert.equal(reply.body.expires_in, pending.expiresAt - now, 'a resumed enrollment keeps its deadline')
    world.count('resume')
    return true
  }
  if (!user.enabled) liftLock(user)
  user.mayHavePending = false
  const expiresAt = now + PENDING_SECONDS
  user.pending = { name, app, createdAt: now, lastStep: -1, drift: 0, far: null, expiresAt, beganIn }
  return true
}

export const confirm: Move = async (world, given) => {
  const { user, on, pick, other } = given
  const { pending } = user
  const enroller = enrollerOf(world, given)
  if (enroller === null || pending === null) return false
  const code = other % 5 === 0 ? seenBy(world, pick) : typedFrom(pending, on.now(), other)
  await confirmBy(world, given, { enroller, code })
  return true
}

export async function confirmBy(
  world: World,
  given: Given,
  { enroller, code }: { enroller: Enroller; code: string },
): Promise<boolean> {
  const { user, on, isTwice } = given
  const { session, credential } = enroller
  const { pending } = user
  assert.ok(pending)
  const now = on.now()
  const send = (process: Process) => world.call(process, 'POST', 'totp/confirm', { input_code: code }, { credential })
  const isKnown = session === null ? opensEnrollment(world, credential, now) : isAlive(session, now)
  const replies = await atOnce(world, given, send)
  const good = replies.filter(isGoodReply)
  assert.ok(good.length <= 1, 'one pending enrollment was confirmed twice')
  if (!isKnown || pending.expiresAt <= now) {
    const due = isKnown ? [user.enabled ? 'totp_already_enabled' : 'totp_not_set_up'] : ['unauthenticated']
    for (const { body } of replies) assert.ok(due.includes(String(body.code)), `confirmed too late: ${body.code}`)
    return false
  }
  const block = blockOf(user, 'totp', now)
  const isRefused = replies.every(({ body }) =>
    ['too_many_attempts', 'second_factor_locked'].includes(String(body.code)),
  )
  if (block !== 'free' && !(block === 'perhaps' && !isRefused)) {
    assert.ok(isRefused, `a first code was judged while ${block}`)
    return false
  }
  const verdict = verdictOf([pending], plain(code), now)
  const right = verdict !== null && !verdict.isFar
  assert.equal(
    good.length === 1,
    right,
    `a ${right ? 'right' : 'wrong'} first code got ${replies.map(({ body }) => body.code)}`,
  )
  const judged = replies.filter(({ body }) => body.code === 'invalid_code').length
  if (!right) {
    judge([pending], plain(code), now)
    for (let n = 0; n < judged; n++) fail(user, 'totp', now)
    return false
  }
  spend({ phone: pending, step: verdict.step }, now)
  world.seen.push(code)
  user.pending = null
  pending.far = null
  const { backup_codes } = (good[0] as Reply).body as { backup_codes: string[] | null }
  assert.equal(backup_codes === null, user.enabled, 'backup codes are handed out with the first authenticator')
  if (backup_codes) user.unusedCodes = new Set(backup_codes)
  await addLive(world, on, user, pending)
  user.enabled = true
  await settle(on, { user, kind: 'totp', losers: isTwice ? 1 : 0, judged })
  world.raise(user, now, session)
  if (session !== null) raiseSession(world, on, session, good[0] as Reply)
  else {
    // The enrollment was the login.
    begun(world, on, { user, door: 'jwt', reply: good[0] as Reply, proof: null, isProved: true })
    world.count('login by enrollment')
  }
  world.count('confirm')
  return true
}

/** Both at once, with the code of a phone that is there. */
export const addPhone: Move = async (world, given) => {
  const { user, on, pick, other } = given
  const session = world.sessionOf(user, pick)
  const [phone] = user.live
  if (session === undefined || phone === undefined) return false
  const enroller = { credential: session.credential, session }
  const typed = { otp_code: typedFrom(phone, on.now(), 1 + 4 * other) }
  if (!(await beginBy(world, on, { user, enroller, typed, other })) || user.pending === null) return true
  // The code of the phone that is there may have given a session that is a cookie a new one.
  const { credential } = session
  const code = typedFrom(user.pending, on.now(), other)
  await confirmBy(world, given, { enroller: { credential, session }, code })
  return true
}

/** Which authenticators are live after one was added, as the service says; never fewer, never more than may be. */
async function addLive(world: World, on: Process, user: ModelUser, added: ModelPhone): Promise<void> {
  const { authenticators } = await on.totp.getStatus(user.id)
  const before = user.live
  user.live = [...before, added].filter(({ name }) => authenticators.some((listed) => listed.name === name))
  assert.equal(authenticators.length, Math.min(world.config.maxAuthenticators, before.length + 1))
  assert.equal(user.live.length, authenticators.length)
  assert.ok(user.live.includes(added))
}

/** Each of these needs a fresh second factor once 2FA is on. */
const changes: readonly Change[] = [disable, rotate, rotate, view, view, remove, remove, removeDevice, removeDevices]
type Change = (world: World, given: Given, session: ModelSession) => Promise<boolean>

export const change: Move = async (world, given) => {
  const session = world.sessionOf(given.user, given.pick)
  if (session === undefined) return false
  return (changes[given.other % changes.length] as Change)(world, given, session)
}

const typedHalfTheTime = (world: World, given: Given) =>
  Math.floor(given.other / 8) % 2 === 0 ? typedBy(world, { ...given, other: Math.floor(given.other / 16) }) : null
const bodyOf = (typed: ReturnType<typeof typedBy> | null) => (typed ? { input_code: codeIn(typed) } : {})

async function disable(world: World, given: Given, session: ModelSession): Promise<boolean> {
  const { user, on } = given
  const typed = typedHalfTheTime(world, given)
  const now = on.now()
  const hadPending = user.pending !== null && user.pending.expiresAt > now
  const reply = await world.call(on, 'POST', 'totp/disable', bodyOf(typed), session)
  if (!(await holdStepUp(world, on, { session, typed, reply, what: 'disable' }))) return true
  if (user.enabled || !user.mayHavePending) assert.equal(reply.status === 204, user.enabled || hadPending)
  if (!user.enabled && reply.status === 204) liftLock(user)
  user.pending = null
  user.mayHavePending = false
  if (!user.enabled) return true
  switchOff(user)
  world.raise(user, now, session)
  return true
}

async function rotate(world: World, given: Given, session: ModelSession): Promise<boolean> {
  const { user, on } = given
  const typed = typedHalfTheTime(world, given)
  const reply = await world.call(on, 'POST', 'totp/rotate_backup_codes', bodyOf(typed), session)
  if (!(await holdStepUp(world, on, { session, typed, reply, what: 'rotate' }))) return true
  assert.equal(reply.status === 200, user.enabled)
  if (!user.enabled) return true
  for (const code of user.unusedCodes) world.seen.push(code)
  user.unusedCodes = new Set(reply.body.backup_codes as string[])
  return true
}

async function view(world: World, { user, on }: Given, session: ModelSession): Promise<boolean> {
  const reply = await world.call(on, 'GET', 'totp/backup_codes', {}, session)
  if (!(await holdStepUp(world, on, { session, typed: null, reply, what: 'view' }))) return true
  assert.equal(reply.status === 200, user.enabled && world.config.codesAre === 'encrypted')
  if (reply.status !== 200) return true
  const codes = reply.body.backup_codes as { code: string; used_at: string | null }[]
  const unused = codes.filter(({ used_at }) => used_at === null).map(({ code }) => code)
  assert.deepEqual(new Set(unused), user.unusedCodes)
  return true
}

async function remove(world: World, given: Given, session: ModelSession): Promise<boolean> {
  const { user, on, other } = given
  const typed = typedHalfTheTime(world, given)
  const now = on.now()
  const { authenticators } = await on.totp.getStatus(user.id)
  const target = authenticators[other % Math.max(1, authenticators.length)]
  const reply = await world.call(on, 'DELETE', `totp/authenticators/${target?.id ?? 'none'}`, bodyOf(typed), session)
  if (!(await holdStepUp(world, on, { session, typed, reply, what: 'remove' }))) return true
  assert.equal(reply.status === 204, user.live.length > 1, 'the last authenticator is never removed, another is')
  if (reply.status !== 204) return true
  user.live = user.live.filter(({ name }) => name !== target?.name)
  world.raise(user, now, session)
  world.count('remove one of two')
  return true
}

async function removeDevice(world: World, given: Given, session: ModelSession): Promise<boolean> {
  const { user, on, other } = given
  const typed = typedHalfTheTime(world, given)
  const now = on.now()
  const listed = await on.totp.listTrustedDevices(user.id)
  const chains = new Set([...world.devices.values()].filter((device) => device.user === user).map(({ chain }) => chain))
  const alive = [...chains].filter(({ living }) => {
    const device = world.devices.get(living)
    return device && !device.dead && device.generation === user.generation && device.expiresAt > now
  })
  assert.equal(listed.length, alive.length, 'the trusted devices that are listed are those that are good')
  const target = listed[other % Math.max(1, listed.length)]
  const reply = await world.call(on, 'DELETE', `totp/trusted_devices/${target?.id ?? 'none'}`, bodyOf(typed), session)
  if (target === undefined && typed && isAlive(session, now)) {
    assert.equal(reply.status, 404, 'no code is judged, counted or spent for a device that is not there')
    return true
  }
  if (!(await holdStepUp(world, on, { session, typed, reply, what: 'remove device' }))) return true
  assert.equal(reply.status === 204, listed.length > 0)
  if (listed.length === 0) return true
  const left = (await on.totp.listTrustedDevices(user.id)).length
  assert.equal(left, listed.length - 1)
  // Which of them it was is not told by a token: with several, none is shown any more.
  for (const chain of alive) world.killDevice(chain)
  for (const { id } of await on.totp.listTrustedDevices(user.id)) await on.totp.removeTrustedDevice(user.id, id)
  return true
}

async function removeDevices(world: World, given: Given, session: ModelSession): Promise<boolean> {
  const { user, on } = given
  const typed = typedHalfTheTime(world, given)
  const reply = await world.call(on, 'DELETE', 'totp/trusted_devices', bodyOf(typed), session)
  if (!(await holdStepUp(world, on, { session, typed, reply, what: 'remove all devices' }))) return true
  assert.equal(reply.status, 204)
  assert.deepEqual(await on.totp.listTrustedDevices(user.id), [])
  for (const device of world.devices.values()) if (device.user === user) device.dead = true
  return true
}

/** A proof in a session: a host's session is raised by it, and nothing else changes. */
export const verify: Move = async (world, given) => {
  const { user, on, pick } = given
  const session = world.sessionOf(user, pick)
  if (session === undefined) return false
  const typed = typedBy(world, given)
  const now = on.now()
  const { credential } = session
  const send = (process: Process) => world.call(process, 'POST', 'totp/verify', typed, { credential })
  const single = session.kind === 'jwt' ? given : { ...given, isTwice: false }
  const wasAlive = isAlive(session, now)
  const replies = await atOnce(world, single, send)
  if (!wasAlive || !user.enabled) {
    assert.equal(replies.filter(isGoodReply).length, 0, 'a second factor was proved where there is none')
    return true
  }
  const good = await holdCode(world, on, { user, typed, replies, what: 'verify' })
  if (good !== null) raiseSession(world, on, session, good)
  return true
}

/** The host's guarded route. */
export const openVault: Move = async (world, { user, on, pick }) => {
  const session = world.sessionOf(user, pick)
  if (session === undefined) return false
  const isDue = isAlive(session, on.now()) && isFresh(session, on.now(), VAULT_SECONDS)
  assert.equal(await world.openVault(on, session), isDue, `the guard lets ${isDue ? 'nobody' : 'somebody'} through`)
  if (isDue) world.count('vault')
  return true
}

/** What the owner is shown is what is so. */
export const look: Move = async (world, { user, on, pick }) => {
  const session = world.sessionOf(user, pick)
  if (session === undefined) return false
  const reply = await world.call(on, 'GET', 'totp/status', {}, session)
  assert.equal(reply.status === 200, isAlive(session, on.now()), `status answered ${reply.status}`)
  if (reply.status !== 200) return true
  const { body } = reply
  assert.equal(body.is_totp_enabled, user.enabled)
  assert.equal(body.backup_codes_remaining, user.unusedCodes.size)
  const names = (body.authenticators as { name: string }[]).map(({ name }) => name)
  assert.deepEqual(new Set(names), new Set(user.live.map(({ name }) => name)))
  const block = blockOf(user, 'totp', on.now())
  const until = body.locked_until as string | null
  if (block === 'free') assert.equal(until, null)
  if (block === 'locked') assert.equal(until, '9999-12-31T23:59:59Z')
  if (block === 'delayed' && user.failures.totp.failedAt.length < 200) {
    assert.equal(Date.parse(String(until)) / 1000, user.failures.totp.blockedUntil)
  }
  return true
}
