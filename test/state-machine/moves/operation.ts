import assert from 'node:assert/strict'
import { isGoodReply } from '../answers.ts'
import { STEP } from '../app.ts'
import { unlock as unlockModel } from '../model.ts'
import type { Process } from '../world.ts'
import type { Move } from './move.ts'

/** Time, the operator, and the support desk. */

export const wait: Move = async ({ clock }, { pick }) => {
  clock.advance([1, 7, 29, 30, 30, 31, 31, 45, 60, pick > 80 ? 1000 : 130][pick % 10] as number)
  return true
}

/** The server's clock is set, forward or back. */
export const setClock: Move = async (world, { pick, other }) => {
  if (other % 6 > 0) return false
  const steps = [-3600, -200, -61, -30, -5, 5, 61, 300, 3600, 86_400]
  const by = steps[pick % steps.length] as number
  world.clock.advance(by)
  if (by < 0) world.forgetExpired()
  world.count(by < 0 ? 'clock back' : 'clock forward')
  return true
}

/** A phone's clock is set, up to some minutes wrong. */
export const setPhone: Move = async (_world, { user, pick, other }) => {
  const phone = user.live[pick % Math.max(1, user.live.length)]
  if (phone === undefined || other % 4 > 0) return false
  phone.app.offset = [0, 0, STEP, -STEP, 120, -240][pick % 6] as number
  return true
}

export const restart: Move = async (world, { on, other }) => {
  if (other % 4 > 0) return false
  await world.restart(on)
  world.count('restart')
  return true
}

/** A new key, as the README says: last in all processes first, and in front afterwards. */
export const rotateKey: Move = async (world, { other }) => {
  if (other % 4 > 0 || world.keys.length > 3) return false
  const phase = world.rollOut++ % 4
  if (phase === 0) world.keys.push(world.newKey())
  const [old, added] = [world.keys.slice(0, -1).reverse(), world.keys.at(-1) as string]
  const keys = phase < 2 ? [...old, added] : [added, ...old]
  await world.restart(world.processes[phase % 2] as Process, keys)
  world.count('key rotation')
  return true
}

/** The host's rule for this user changes. */
export const changeRule: Move = async (_world, { user, pick }) => {
  if (pick % 3 > 0) return false
  user.mustEnroll = !user.mustEnroll
  return true
}

export const unlock: Move = async (world, { user, on, pick }) => {
  if (pick % 8 > 0) return false
  await on.totp.unlock(user.id)
  unlockModel(user)
  world.count('unlock')
  return true
}

/** The host likes its tables small. */
export const cleanUp: Move = async (_world, { on, pick }) => {
  if (pick % 4 > 0) return false
  await on.store.deleteExpired(on.now())
  return true
}

/** Another service of the same people, with the same key, in the same database: what it grants opens nothing here. */
export const meetOtherService: Move = async (world, { user, on, other }) => {
  if (other % 3 > 0) return false
  const { keys } = on
  const store = await world.storage.openOther()
  const its = await world.serviceOn(store, { keys, now: on.now, issuer: 'Acme in staging', door: 'plain' })
  const { value: login } = await world.ask(() => its.totp.startLogin(user.id))
  assert.ok(login && login.status !== 'challenge')
  if (login.status === 'enrollment_required') {
    const reply = await world.call(on, 'GET', 'totp/status', {}, { credential: `Bearer ${login.enrollmentToken}` })
    assert.equal(isGoodReply(reply), false, 'an enrollment token of another service opened ours')
    return true
  }
  const { access, refresh } = await its.tokens.issueTokens(login.proof)
  const credential = `Bearer ${access}`
  for (const path of ['totp/status', 'totp/trusted_devices']) {
    const reply = await world.call(on, 'GET', path, {}, { credential })
    assert.equal(reply.body.code, 'unauthenticated', 'an access token of another service opened ours')
  }
  assert.equal((await world.call(on, 'POST', 'jwt/refresh', { refresh })).status, 401)
  const challenge = await its.totp.generateChallengeToken(user.id)
  const answer = { totp_challenge_token: challenge, otp_code: '424242' }
  const reply = await world.call(on, 'POST', 'jwt/totp/verify', answer)
  assert.equal(reply.body.code, 'challenge_invalid', 'a challenge of another service was judged by ours')
  world.count('other service')
  return true
}
