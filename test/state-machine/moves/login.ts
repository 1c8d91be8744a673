import assert from 'node:assert/strict'
import type { Proof } from 'totp-kit'
import { codeIn, holdCode, holdStepUp, isGoodReply, kindOf, type Typed } from '../answers.ts'
import {
  ACCESS_SECONDS,
  blockOf,
  CHALLENGE_SECONDS,
  DEVICE_SECONDS,
  isFarFromTotal,
  isGood,
  type ModelChallenge,
  type ModelDevice,
  type ModelSession,
  type ModelUser,
  opens,
  PENDING_SECONDS,
  provedNow,
  REFRESH_SECONDS,
  renewedUntil,
} from '../model.ts'
import type { Process, Reply, World } from '../world.ts'
import { atOnce, type Given, late, type Move, typedBy } from './move.ts'

export type Door = ModelSession['kind']
const DOORS: readonly Door[] = ['jwt', 'jwt', 'stateful', 'stateless']
export const doorOf = (n: number) => DOORS[n % DOORS.length] as Door
/** First factors of a host's own. Some of them claim more than they are: the second factor is for this library to say. */
const AMRS = [['pwd'], ['pwd'], ['hwk'], ['fed', 'mfa'], ['fed', 'otp']] as const

export type Entered =
  | { outcome: 'session'; session: ModelSession }
  | { outcome: 'challenge' | 'enrollment'; token: string }

/** With the right password, through one of the doors, and what must come of it. */
export async function enter(
  world: World,
  on: Process,
  given: { user: ModelUser; door: Door; amr?: readonly string[]; device?: string | undefined },
): Promise<Entered> {
  const { user, door, device } = given
  const amr = door === 'jwt' ? ['pwd'] : (given.amr ?? ['pwd'])
  const now = on.now()
  const { reply, proof, token } = await start(on, world, { user, door, amr, device })
  const known = device === undefined ? undefined : world.devices.get(device)
  const isTrusted = known !== undefined && known.user === user && user.enabled && isGood(known, now)
  if (known !== undefined && known.user === user && user.enabled) {
    // A token is spent by being shown; a spent one ends its device, whoever shows it.
    if (isTrusted) known.dead = true
    else if (opens(known, now)) world.killDevice(known.chain)
  }
  const { generation } = user
  const sealed = { user, generation, sealedAt: now, dead: false }
  if (reply.body.is_totp_enabled === true) {
    assert.ok(user.enabled, 'a challenge for a user without a second factor')
    assert.ok(!isTrusted, 'a trusted device was asked for a code')
    world.challenges.set(token, { ...sealed, expiresAt: now + CHALLENGE_SECONDS, amr, login: { at: now } })
    return { outcome: 'challenge', token }
  }
  assert.ok(!user.enabled || isTrusted, 'a session without the second factor')
  if (reply.body.must_enroll === true) {
    assert.ok(user.mustEnroll && !user.enabled, 'enrollment is asked of somebody who need not')
    world.enrollments.set(token, { ...sealed, expiresAt: now + PENDING_SECONDS })
    return { outcome: 'enrollment', token }
  }
  assert.ok(user.enabled || !user.mustEnroll, 'a session for somebody who must enroll first')
  if (isTrusted) keepDevice(world, user, reply, { sealedAt: now, expiresAt: known.expiresAt, chain: known.chain })
  if (isTrusted) world.count('trusted device')
  return { outcome: 'session', session: begun(world, on, { user, door, reply, proof, isProved: false }) }
}

interface Started {
  reply: Reply
  proof: Proof | null
  token: string
}

async function start(
  on: Process,
  world: World,
  given: { user: ModelUser; door: Door; amr: readonly string[]; device: string | undefined },
): Promise<Started> {
  const { user, door, amr, device } = given
  if (door === 'jwt') {
    const { username, password } = user
    const inBody = device === undefined || world.config.cookie ? {} : { trusted_device: device }
    const reply = await world.call(
      on,
      'POST',
      'jwt/create',
      { username, password, ...inBody },
      world.config.cookie ? { device } : {},
    )
    assert.equal(reply.status, 200, `the right password got ${reply.body.code}`)
    return { reply, proof: null, token: String(reply.body.totp_challenge_token ?? reply.body.enrollment_token) }
  }
  const { value: login } = await world.ask(() =>
    on.totp.startLogin(user.id, { amr, ...(device === undefined ? {} : { trustedDevice: device }) }),
  )
  assert.ok(login)
  if (login.status === 'challenge')
    return { reply: ok({ is_totp_enabled: true }), proof: null, token: login.challengeToken }
  if (login.status === 'enrollment_required')
    return { reply: ok({ must_enroll: true }), proof: null, token: login.enrollmentToken }
  return { reply: { ...ok({}), device: login.trustedDevice ?? undefined }, proof: login.proof, token: '' }
}

const ok = (body: Record<string, unknown>): Reply => ({ status: 200, body })

export function begun(
  world: World,
  on: Process,
  given: { user: ModelUser; door: Door; reply: Reply; proof: Proof | null; isProved: boolean },
): ModelSession {
  const { user, door, reply, proof, isProved } = given
  const now = on.now()
  const { generation } = user
  const common = { user, kind: door, proved: isProved ? provedNow(user, now) : null, ended: false }
  let session: ModelSession
  if (door === 'jwt') {
    const { access, refresh } = reply.body as { access: string; refresh: string }
    const refreshUntil = now + REFRESH_SECONDS
    const family = { user, generation, alive: true, living: refresh, expiresAt: refreshUntil }
    world.families.add(family)
    const tokens = { refresh, refreshUntil, family }
    session = { ...common, credential: `Bearer ${access}`, expiresAt: now + ACCESS_SECONDS, tokens }
  } else {
    assert.ok(proof)
    session = { ...common, kind: door, credential: world.host.begin(door, proof), expiresAt: null, tokens: null }
  }
  world.sessions.push(session)
  return session
}

function keepDevice(
  world: World,
  user: ModelUser,
  reply: Reply,
  given: { sealedAt: number; expiresAt: number; chain: ModelDevice['chain'] | null },
): void {
  const { sealedAt, expiresAt, chain } = given
  const token = String(reply.device)
  const device = {
    user,
    generation: user.generation,
    sealedAt,
    expiresAt,
    dead: false,
    chain: chain ?? { living: token },
  }
  device.chain.living = token
  world.devices.set(token, device)
}

/** Sends an answer to a challenge, once or twice at the same time, and holds it to the model. */
export async function present(
  world: World,
  given: Given,
  answer: { token: string; typed: Typed; door: Door; trust: boolean },
): Promise<ModelSession | null> {
  const { on } = given
  const { token, typed, door, trust } = answer
  const challenge = world.challenges.get(token)
  const now = on.now()
  const replies = await atOnce(world, given, (process) => send(world, process, answer))
  if (!challenge || !isGood(challenge, now)) {
    for (const { body } of replies)
      assert.equal(body.code, 'challenge_invalid', 'a challenge that is over was answered')
    return null
  }
  const { user, amr } = challenge
  const what = `${kindOf(typed)} at ${door}`
  const good = await holdCode(world, on, { user, typed, replies, what })
  for (const reply of replies) holdRenewed(world, on, { challenge, typed, reply, isAlone: replies.length === 1 })
  if (good === null) return null
  if (challenge.sealedAt > challenge.login.at) world.count('renewed challenge')
  for (const other of world.challenges.values()) if (other.login === challenge.login) other.dead = true
  const { proof } = good as Sent
  if (proof) {
    const own = amr.filter((method) => method !== 'mfa' && method !== 'otp')
    const proved = kindOf(typed) === 'totp' ? ['otp', 'mfa'] : ['mfa']
    assert.deepEqual(new Set(proof.amr), new Set([...own, ...proved]))
  }
  if (trust && good.device !== undefined) {
    keepDevice(world, user, good, { sealedAt: now, expiresAt: now + DEVICE_SECONDS, chain: null })
  }
  return begun(world, on, { user, door, reply: good, proof, isProved: true })
}

/** A refusal that tells to wait brings a token of the same challenge that outlives the wait, and no other reply does. */
function holdRenewed(
  world: World,
  on: Process,
  answered: { challenge: ModelChallenge; typed: Typed; reply: Reply; isAlone: boolean },
): void {
  const { challenge, typed, reply, isAlone } = answered
  const { user } = challenge
  const kind = kindOf(typed)
  const now = on.now()
  const { code, totp_challenge_token: token, retry_after_seconds: wait } = reply.body
  const mayWait = (code === 'too_many_attempts' || code === 'invalid_code') && wait !== undefined
  if (isAlone && isFarFromTotal(user, kind)) {
    const isDelayed = blockOf(user, kind, now) === 'delayed'
    assert.equal(mayWait, isDelayed, `${code} tells ${mayWait ? 'a' : 'no'} wait`)
    if (isDelayed) assert.equal(wait, user.failures[kind].blockedUntil - now)
  }
  const until = mayWait ? renewedUntil(challenge, now + Number(wait)) : null
  assert.equal(token !== undefined, until !== null, `${code} with a wait of ${wait} s and the token ${token}`)
  if (until !== null) world.challenges.set(String(token), { ...challenge, sealedAt: now, expiresAt: until })
}

type Sent = Reply & { proof: Proof | null }

async function send(
  world: World,
  on: Process,
  { token, typed, door, trust }: { token: string; typed: Typed; door: Door; trust: boolean },
): Promise<Sent> {
  if (door === 'jwt') {
    const body = { totp_challenge_token: token, ...typed, ...(trust ? { trust_device: true } : {}) }
    return { ...(await world.call(on, 'POST', 'jwt/totp/verify', body)), proof: null }
  }
  const answer = { method: kindOf(typed), code: codeIn(typed) } as const
  const reply = await world.ask(() => on.totp.answerChallenge(token, answer))
  const proof = reply.value ?? null
  const device = proof && trust ? await on.totp.trustDevice(proof) : null
  return { ...reply, proof, device: device ?? undefined }
}

export const logIn: Move = async (world, { user, on, pick, other }) => {
  const entered = await enter(world, on, {
    user,
    door: doorOf(other),
    amr: AMRS[pick % AMRS.length] as readonly string[],
  })
  if (entered.outcome !== 'session' && pick % 3 === 0) world.seen.push(entered.token)
  return true
}

export const logInOnDevice: Move = async (world, { user, on, pick, other }) => {
  const own = [...world.devices].filter(([, device]) => device.user === user)
  const [device] = late(own, pick) ?? []
  if (device === undefined) return false
  await enter(world, on, { user, door: doorOf(other), amr: AMRS[pick % AMRS.length] as readonly string[], device })
  world.seen.push(device)
  return true
}

export const answer: Move = async (world, given) => {
  const { user, on, pick, other } = given
  if (!user.enabled) return false
  if (pick % 4 > 0) await enter(world, on, { user, door: doorOf(pick) })
  const own = [...world.challenges].filter(([, challenge]) => challenge.user === user)
  const [token] = late(own, Math.floor(pick / 4)) ?? []
  if (token === undefined) return false
  await present(world, given, { token, typed: typedBy(world, given), door: doorOf(other), trust: pick % 3 === 0 })
  return true
}

/** Somebody whom a delay holds up answers after it with the renewed challenge, and without the password. */
export const answerRenewed: Move = async (world, given) => {
  const { user, on, pick, other } = given
  if (!user.enabled || blockOf(user, 'totp', on.now()) !== 'delayed') return false
  const entered = await enter(world, on, { user, door: doorOf(pick) })
  if (entered.outcome !== 'challenge') return true
  const answer = { token: entered.token, door: doorOf(other), trust: false }
  await present(world, given, { ...answer, typed: { otp_code: '424242' } })
  const [token, known] = [...world.challenges].at(-1) ?? []
  assert.ok(token !== undefined && known)
  if (token === entered.token) return true
  world.clock.advance(user.failures.totp.blockedUntil - on.now() + (pick % 60))
  await present(world, given, { ...answer, token, typed: typedBy(world, given) })
  return true
}

export const refresh: Move = async (world, given) => {
  const own = world.sessionsOf(given.user).filter(({ tokens }) => tokens !== null)
  const session = late(own, given.pick)
  if (!session?.tokens) return false
  await presentRefresh(world, given, session.tokens.refresh)
  return true
}

export async function presentRefresh(world: World, given: Given, token: string): Promise<void> {
  const { on, isTwice } = given
  const now = on.now()
  const session = world.sessions.find(({ tokens }) => tokens?.refresh === token)
  const replies = await atOnce(world, given, (process) =>
    world.call(process, 'POST', 'jwt/refresh', { refresh: token }),
  )
  const good = replies.filter(isGoodReply)
  assert.ok(good.length <= 1, 'a refresh token worked twice')
  if (!session?.tokens) {
    assert.equal(good.length, 0, 'something that is no refresh token was refreshed')
    return
  }
  const { family, refreshUntil } = session.tokens
  const isReadable = refreshUntil > now
  const isLiving =
    isReadable &&
    family.alive &&
    family.generation === family.user.generation &&
    family.living === token &&
    family.expiresAt > now
  assert.equal(good.length === 1, isLiving, 'a refresh token lives as long as its family says')
  world.seen.push(token)
  if (isReadable && (!isLiving || isTwice)) family.alive = false
  if (good.length === 0) return
  const { access, refresh } = (good[0] as Reply).body as { access: string; refresh: string }
  const [before, after] = [claimsOf(session.credential), claimsOf(`Bearer ${access}`)]
  assert.deepEqual([after.amr, after.auth_time], [before.amr, before.auth_time], 'a refresh raised the session')
  family.living = refresh
  family.expiresAt = now + REFRESH_SECONDS
  const tokens = { refresh, refreshUntil: family.expiresAt, family }
  // A family that its own change has kept keeps its proof as well, no younger than it was.
  const proved = session.proved && { ...session.proved, generation: family.user.generation }
  const refreshed = { ...session, credential: `Bearer ${access}`, expiresAt: now + ACCESS_SECONDS, tokens, proved }
  world.sessions.push(refreshed)
  const reply = await world.call(on, 'GET', 'totp/backup_codes', {}, refreshed)
  await holdStepUp(world, on, { session: refreshed, typed: null, reply, what: 'view after a refresh' })
  world.count('refresh')
}

function claimsOf(credential: string): { amr: string[]; auth_time: number } {
  return JSON.parse(Buffer.from(credential.split('.')[1] ?? '', 'base64url').toString())
}

export const logOut: Move = async (world, { user, on, pick }) => {
  const session = late(
    world.sessionsOf(user).filter(({ tokens }) => tokens !== null),
    pick,
  )
  if (!session?.tokens || pick % 3 > 0) return false
  const { refresh, refreshUntil, family } = session.tokens
  const reply = await world.call(on, 'POST', 'jwt/logout', { refresh })
  assert.equal(isGoodReply(reply), refreshUntil > on.now())
  if (isGoodReply(reply)) family.alive = false
  world.seen.push(refresh)
  return true
}

/** Whether a token is good, as a resource server asks. */
export const checkToken: Move = async (world, { user, on, pick }) => {
  const session = late(
    world.sessionsOf(user).filter(({ tokens }) => tokens !== null),
    pick,
  )
  if (!session?.tokens) return false
  const { refresh, refreshUntil, family } = session.tokens
  const now = on.now()
  const isFamilyGood = family.alive && family.generation === user.generation && family.expiresAt > now
  const isAccess = pick % 2 === 0
  const token = isAccess ? session.credential.slice('Bearer '.length) : refresh
  const isTokenGood = isAccess ? (session.expiresAt ?? 0) > now : refreshUntil > now && family.living === refresh
  const reply = await world.call(on, 'POST', 'jwt/verify', { token })
  assert.equal(isGoodReply(reply), isFamilyGood && isTokenGood, 'a token is good as long as its family lives')
  return true
}
