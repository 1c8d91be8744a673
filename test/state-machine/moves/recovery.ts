import assert from 'node:assert/strict'
import { isGoodReply } from '../answers.ts'
import { blockOf, fail, isGood, LINK_SECONDS, type ModelUser, opens, succeed, switchOff } from '../model.ts'
import type { Process, World } from '../world.ts'
import { atOnce, type Given, late, type Move } from './move.ts'

const MAX_MAILS = 5

export const askForLink: Move = async (world, { user, on }) => {
  await requestLink(world, on, user)
  return true
}

/** @returns the link that confirms; null when no mail is due */
export async function requestLink(world: World, on: Process, user: ModelUser): Promise<string | null> {
  const now = on.now()
  const reply = await world.call(on, 'POST', 'totp/recovery', { email: user.emails[0] })
  assert.equal(reply.status, 200)
  const mails = world.mailed()
  const { mails: window } = user
  if (user.enabled) {
    const isNew = window.until <= now || window.until > now + 3600
    if (isNew) Object.assign(window, { sent: 0, until: now + 3600, isUnsure: false })
    window.sent++
  }
  const isDue = user.enabled && (window.isUnsure ? mails.length > 0 : window.sent <= MAX_MAILS)
  assert.deepEqual(
    new Set(mails.map(({ to }) => to)),
    new Set(isDue ? user.emails : []),
    'recovery mails go to the user, when they are due',
  )
  const { generation } = user
  const { delaySeconds } = world.config
  let confirming: string | null = null
  for (const mail of mails) {
    assert.ok('url' in mail)
    const said = new URLSearchParams(new URL(mail.url).hash.slice(1))
    const [token, uid] = [String(said.get('token')), String(said.get('uid'))]
    const canConfirm = mail.to === user.emails[0]
    const [worksFrom, expiresAt] = [now + delaySeconds, now + delaySeconds + LINK_SECONDS]
    world.links.set(token, { user, generation, sealedAt: now, worksFrom, expiresAt, dead: false, uid, canConfirm })
    if (canConfirm) confirming = token
  }
  return confirming
}

function linkOf(world: World, user: ModelUser, pick: number): string | undefined {
  return late(
    [...world.links].filter(([, link]) => link.user === user),
    pick,
  )?.[0]
}

export const recover: Move = async (world, given) => {
  const { user, pick, other } = given
  const token = linkOf(world, user, pick)
  if (token === undefined) return false
  await presentLink(world, given, token, other % 4 < 2 ? 'a wrong password' : user.password)
  return true
}

/** @returns whether 2FA is off by it */
export async function presentLink(world: World, given: Given, token: string, password: string): Promise<boolean> {
  const { on } = given
  const link = world.links.get(token)
  const now = on.now()
  const uid = link?.uid ?? Buffer.from(given.user.id).toString('base64url')
  const replies = await atOnce(world, given, (process) =>
    world.call(process, 'POST', 'totp/recovery_confirm', { uid, token, password }),
  )
  const good = replies.filter(isGoodReply)
  assert.ok(good.length <= 1, 'a recovery link worked twice')
  if (!link?.canConfirm || !isGood(link, now) || now < link.worksFrom) {
    for (const { body } of replies) assert.equal(body.code, 'recovery_link_invalid')
    return false
  }
  const { user } = link
  const block = blockOf(user, 'recovery_password', now)
  const isRefused = replies.every(({ body }) =>
    ['too_many_attempts', 'second_factor_locked'].includes(String(body.code)),
  )
  if (block !== 'free' && !(block === 'perhaps' && !isRefused)) {
    assert.ok(isRefused, `the password of a recovery was judged while ${block}`)
    return false
  }
  assert.equal(good.length === 1, password === user.password, `a recovery got ${replies.map(({ body }) => body.code)}`)
  for (const { body } of replies) if (body.code === 'invalid_credentials') fail(user, 'recovery_password', now)
  if (good.length === 0) return false
  link.dead = true
  world.seen.push(token)
  succeed(user, 'recovery_password')
  switchOff(user)
  world.raise(user, now, null)
  world.count('recovery')
  return true
}

/** "This wasn't me", by whoever reads one of the mails. */
export const cancel: Move = async (world, { user, on, pick }) => {
  const token = linkOf(world, user, pick)
  if (token === undefined || pick % 2 > 0) return false
  await cancelLink(world, on, token)
  return true
}

export async function cancelLink(world: World, on: Process, token: string): Promise<void> {
  const link = world.links.get(token)
  assert.ok(link)
  const now = on.now()
  const isDue = opens(link, now) && isGood(link, now)
  const reply = await world.call(on, 'POST', 'totp/recovery_cancel', { uid: link.uid, token })
  assert.equal(reply.status === 204, isDue, `a recovery was ${isDue ? 'not ' : ''}canceled: ${reply.body.code}`)
  world.seen.push(token)
  if (!isDue) return
  link.dead = true
  world.raise(link.user, now, null)
  world.count('cancel')
}

/** A new password, or a new address. The attacker who had the password has it no more. */
export const tellOfNewPassword: Move = async (world, { user, on, pick, other }) => {
  if (pick % 5 > 0) return false
  await changePassword(world, on, user, other % 3 === 0)
  return true
}

export async function changePassword(world: World, on: Process, user: ModelUser, isNew: boolean): Promise<void> {
  if (isNew) {
    user.password = `${user.password}, changed`
    user.isPasswordKnown = false
  }
  const now = on.now()
  await on.totp.credentialsChanged(user.id)
  // The guesses were at the password of before.
  succeed(user, 'recovery_password')
  world.raise(user, now, null)
}
