import assert from 'node:assert/strict'
import { byShape, codeIn, holdStepUp, isAlive, type Typed } from '../answers.ts'
import { STEP } from '../app.ts'
import { blockOf, fail, isGood, judge, verdictOf } from '../model.ts'
import type { World } from '../world.ts'
import { beginBy, confirmBy } from './factors.ts'
import { doorOf, enter, present, presentRefresh } from './login.ts'
import { type Given, late, type Move, seenBy } from './move.ts'
import { cancelLink, presentLink, requestLink } from './recovery.ts'

/** Everything that was seen, against every open challenge, also another user's. */
export const attackChallenge: Move = async (world, given) => {
  const { user, on, pick, other } = given
  const open = [...world.challenges.keys()]
  const candidates = [...open, ...world.seen].filter((text) => text.length > 64)
  let token = candidates[other % Math.max(1, candidates.length)] ?? 'none'
  if (user.isPasswordKnown && pick % 2 === 0) {
    const entered = await enter(world, on, { user, door: doorOf(other) })
    if (entered.outcome === 'challenge') token = entered.token
  }
  const value = seenBy(world, pick * 31 + other)
  const typed: Typed = pick % 3 === 0 ? { backup_code: value } : { otp_code: value }
  await present(world, given, { token, typed, door: doorOf(other), trust: true })
  return true
}

/** A far code, an old one after it, and the far one when its time has come: none of them is good by itself. */
export const typeEarly: Move = async (world, given) => {
  const { user, on, pick } = given
  const phone = user.live[0]
  if (!user.isPasswordKnown || !user.enabled || phone === undefined || blockOf(user, 'totp', on.now()) !== 'free') {
    return false
  }
  const ahead = 2 + (pick % 6)
  const step = Math.floor(on.now() / STEP) + phone.drift + ahead
  const guess = phone.app.codeOf(step)
  const old = phone.app.codeOf(step - ahead - 4 - (pick % 3))
  for (const [code, seconds] of [
    [guess, 0],
    [old, STEP * ahead],
    [guess, 0],
  ] as const) {
    const entered = await enter(world, on, { user, door: 'jwt' })
    if (entered.outcome !== 'challenge') return true
    const answer = { token: entered.token, typed: { otp_code: code }, door: 'jwt', trust: false } as const
    await present(world, { ...given, isTwice: false }, answer)
    world.clock.advance(seconds)
  }
  world.count('early code')
  return true
}

/** A session that was opened with the password alone, or is of before a change: it must not change anything. */
export const attackSession: Move = async (world, given) => {
  const { user, on, pick, other } = given
  const weak = world.sessions.filter((session) => session.user === user && session.proved === null)
  const session = weak[pick % Math.max(1, weak.length)]
  if (session === undefined || !user.enabled) return false
  const paths = ['totp/disable', 'totp/rotate_backup_codes', 'totp/create'] as const
  const path = paths[pick % paths.length] as string
  const typed = other % 2 === 0 ? byShape(seenBy(world, other)) : null
  const reply = await world.call(on, 'POST', path, typed ? { input_code: codeIn(typed) } : {}, session)
  await holdStepUp(world, on, { session, typed, reply, what: `${path} by an attacker` })
  assert.ok(reply.status >= 400, `the attacker got ${path} done`)
  return true
}

/** Tokens of every kind, where they do not belong. */
export const attackTokens: Move = async (world, given) => {
  const { user, on, pick, other } = given
  const kinds = [...world.seen, ...world.challenges.keys(), ...world.links.keys(), ...world.enrollments.keys()]
  const token = kinds[(pick * 17 + other) % kinds.length] as string
  const once = { ...given, isTwice: false }
  const { sessions } = world
  switch (pick % 5) {
    case 0:
      if (!sessions.some(({ tokens }) => tokens?.refresh === token)) await presentRefresh(world, once, token)
      return true
    case 1:
      if (!user.isPasswordKnown) return false
      if (!world.devices.has(token)) await enter(world, on, { user, door: doorOf(other), device: token })
      return true
    case 2:
      if (!world.links.has(token)) await presentLink(world, once, token, user.password)
      return true
    case 3: {
      const paths = [
        ['POST', 'totp/disable'],
        ['POST', 'totp/rotate_backup_codes'],
        ['GET', 'totp/backup_codes'],
        ['GET', 'totp/trusted_devices'],
        ['POST', 'totp/verify'],
      ] as const
      const [method, path] = paths[other % paths.length] as (typeof paths)[number]
      const body = path === 'totp/verify' ? { otp_code: '424242' } : {}
      const reply = await world.call(on, method, path, body, { credential: `Bearer ${token}` })
      assert.equal(reply.body.code, 'unauthenticated', `${path} was open to a token of another kind`)
      return true
    }
    default: {
      const known = world.enrollments.get(token)
      const reply = await world.call(on, 'GET', 'totp/status', {}, { credential: `Bearer ${token}` })
      if (known && isGood(known, on.now())) assert.equal(reply.status, 200)
      else assert.equal(reply.body.code, 'unauthenticated')
      return true
    }
  }
}

/** Tokens that were good, with a bit of them changed; and our JWTs with another user's name, or without a signature. */
export const forge: Move = async (world, { user, on, pick, other }) => {
  const now = on.now()
  const [challenge] = [...world.challenges].find(([, known]) => known.user === user && isGood(known, now)) ?? []
  if (pick % 2 === 0 && challenge !== undefined) {
    const bytes = Buffer.from(challenge, 'base64url')
    const at = other % bytes.length
    bytes[at] = (bytes[at] as number) ^ (1 << (other % 8))
    const token = `${bytes.toString('base64url')}${challenge.match(/=*$/)?.[0]}`
    const reply = await world.call(on, 'POST', 'jwt/totp/verify', { totp_challenge_token: token, otp_code: '424242' })
    assert.equal(
      reply.body.code,
      'challenge_invalid',
      `a challenge with bit ${other % 8} of byte ${at} changed was read`,
    )
    return true
  }
  const session = world.sessions.find(({ kind, expiresAt }) => kind === 'jwt' && (expiresAt ?? 0) > now)
  if (session === undefined) return false
  const [header, payload, signature] = session.credential.slice('Bearer '.length).split('.') as [string, string, string]
  const victim = world.users.find((one) => one !== session.user)
  const claims = { ...JSON.parse(Buffer.from(payload, 'base64url').toString()), sub: victim?.id, amr: ['pwd', 'mfa'] }
  const text = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const forged = [
    `${header}.${text(claims)}.${signature}`,
    `${text({ alg: 'none', typ: 'at+jwt' })}.${text(claims)}.`,
    `${text({ alg: 'none', typ: 'at+jwt' })}.${text(claims)}.${signature}`,
  ][other % 3]
  const reply = await world.call(on, 'GET', 'totp/status', {}, { credential: `Bearer ${forged}` })
  assert.equal(reply.body.code, 'unauthenticated', 'a forged access token was read')
  world.count('forgery')
  return true
}

/** Wrong codes at the pace of the delays, for as long as a day: as far as the budget goes. */
export const besiege: Move = async (world, given) => {
  const { user, pick, other } = given
  const attempts = [6, 12, 101, 101][pick % 4] as number
  // A siege takes as long as a whole sequence of other steps.
  if (other % (world.storage.name === 'memory' ? 6 : 24) > 0) return false
  if (world.config.power === 'mailbox') return besiegeRecovery(world, given, attempts)
  if (!user.isPasswordKnown) return false
  return user.enabled ? besiegeLogin(world, given, attempts) : besiegeEnrollment(world, given, attempts)
}

async function besiegeLogin(world: World, given: Given, attempts: number): Promise<boolean> {
  const { user, on, other } = given
  const kind = Math.floor(other / 24) % 5 < 3 ? 'totp' : 'backup_code'
  for (let n = 0; n < attempts && attemptDue(world, given, kind); n++) {
    const { value: login } = await world.ask(() => on.totp.startLogin(user.id))
    assert.ok(login?.status === 'challenge')
    const code = kind === 'totp' ? wrongCode(given, user.live) : 'AAAA-AAAA-AAAA-AAAA'
    const reply = await world.ask(() => on.totp.answerChallenge(login.challengeToken, { method: kind, code }))
    assert.equal(reply.body.code, 'invalid_code', `a wrong ${kind} in a siege`)
    if (kind === 'totp') judge(user.live, code, on.now())
    fail(user, kind, on.now())
  }
  world.count(`siege of ${kind}`)
  return true
}

/** The owner has no second factor yet and must have one: wrong first codes. */
async function besiegeEnrollment(world: World, given: Given, attempts: number): Promise<boolean> {
  const { user, on, other } = given
  if (!user.mustEnroll) return false
  for (let n = 0; n < attempts && attemptDue(world, given, 'totp'); n++) {
    const known = [...world.enrollments].find(([, token]) => token.user === user && isGood(token, on.now()))
    let token = known?.[0]
    if (token === undefined) {
      const entered = await enter(world, on, { user, door: 'jwt' })
      if (entered.outcome !== 'enrollment') return true
      token = entered.token
    }
    const enroller = { credential: `Bearer ${token}`, session: null }
    if (user.pending === null || user.pending.expiresAt <= on.now()) {
      await beginBy(world, on, { user, enroller, typed: null, other })
    }
    if (user.pending === null) return true
    await confirmBy(world, { ...given, isTwice: false }, { enroller, code: wrongCode(given, [user.pending]) })
  }
  world.count('siege of an enrollment')
  return true
}

/** With the mailbox alone: wrong passwords. */
async function besiegeRecovery(world: World, given: Given, attempts: number): Promise<boolean> {
  const { user, on } = given
  const once = { ...given, isTwice: false }
  if (!user.enabled) return false
  for (let n = 0; n < attempts && attemptDue(world, given, 'recovery_password'); n++) {
    const good = [...world.links].filter(([, link]) => link.user === user && link.canConfirm && isGood(link, on.now()))
    let token = late(good, 0)?.[0] ?? null
    while (token === null) {
      token = await requestLink(world, on, user)
      if (token === null) world.clock.advance(600)
    }
    world.clock.advance(Math.max(0, (world.links.get(token)?.worksFrom ?? 0) - on.now()))
    await presentLink(world, once, token, 'a guess')
  }
  world.count('siege of a recovery')
  return true
}

/** One more attempt, after as long as the delay says. False where time does not help, or not soon. */
function attemptDue(world: World, { user, on }: Given, kind: 'totp' | 'backup_code' | 'recovery_password'): boolean {
  const now = on.now()
  const block = blockOf(user, kind, now)
  if (block === 'delayed') world.clock.advance(user.failures[kind].blockedUntil - now)
  world.steps++
  return block === 'free' || block === 'delayed'
}

/** A code that is right at no time near. */
function wrongCode({ on, other }: Given, phones: Parameters<typeof verdictOf>[0]): string {
  for (let n = other; ; n++) {
    const code = String(n % 1_000_000).padStart(6, '0')
    if (verdictOf(phones, code, on.now()) === null) return code
  }
}

/** Whoever reads the mail asks for links and stops them, and logs the owner out by it. */
export const harass: Move = async (world, { user, on, pick, other }) => {
  if (world.config.power !== 'mailbox' || other % 3 > 0) return false
  const token = await requestLink(world, on, user)
  if (token !== null && pick % 2 === 0) await cancelLink(world, on, token)
  return true
}

/** Somebody who has nothing. */
export const knock: Move = async (world, { user, on, pick, other }) => {
  const login = { username: user.username, password: `guess ${other}` }
  const reply = await world.call(on, 'POST', 'jwt/create', login)
  assert.equal(reply.body.code, 'invalid_credentials')
  const dead = world.sessions.find((session) => !isAlive(session, on.now()))
  if (dead && pick % 2 === 0) {
    const answered = await world.call(on, 'GET', 'totp/status', {}, dead)
    assert.equal(answered.body.code, 'unauthenticated', 'a session that is over opened something')
  }
  return true
}
