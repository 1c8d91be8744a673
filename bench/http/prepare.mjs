/** Users of totp-kit, and requests of theirs that are ready to be sent: for totp-kit itself and for the limit. */
import { authenticatorFor } from '../../dist/testing/index.js'
import { inBatches } from '../measure.mjs'
import { post } from './server-process.mjs'

/** A call of the host's own, behind `requireFresh`. */
export const GUARDED = '/api/guarded/'

export function preparer(totp, tokens, clock) {
  const enrolled = []
  const fresh = []

  async function enroll() {
    const id = `user-${enrolled.length}-${Math.random().toString(36).slice(2)}`
    const phone = authenticatorFor((await totp.createTotpSetup({ id, accountName: `${id}@example.com` })).uri)
    const { backupCodes: codes } = await totp.confirmTotpSetup(id, phone.codeAt(clock.now()))
    return { id, phone, codes, bearer: null }
  }

  async function meet() {
    const id = `fresh-${fresh.length}-${Math.random().toString(36).slice(2)}`
    const { proof } = await totp.startLogin(id)
    return { id, bearer: `Bearer ${(await tokens.issueTokens(proof)).access}` }
  }

  async function atLeast(list, count, make) {
    const missing = Array.from({ length: Math.max(0, count - list.length) })
    list.push(...(await inBatches(missing, 8, make)))
    return list.slice(0, count)
  }

  async function bearerOf(user) {
    if (user.bearer === null) {
      const code = user.phone.codeAt(clock.now())
      const proof = await totp.answerChallenge(await totp.generateChallengeToken(user.id), { method: 'totp', code })
      user.bearer = `Bearer ${(await tokens.issueTokens(proof)).access}`
    }
    return user.bearer
  }

  async function asCallers(path, count) {
    const users = await atLeast(enrolled, count, enroll)
    clock.advance(30)
    return inBatches(users, 8, async (user) => ({
      method: 'GET',
      path,
      headers: { authorization: await bearerOf(user) },
      body: '',
    }))
  }

  const works = {
    async login(count) {
      const users = await atLeast(enrolled, count, enroll)
      clock.advance(30)
      return inBatches(users, 8, async ({ id, phone }) =>
        post('/api/jwt/totp/verify/', {
          totp_challenge_token: await totp.generateChallengeToken(id),
          otp_code: phone.codeAt(clock.now()),
        }),
      )
    },
    async backup(count) {
      const users = await atLeast(enrolled, count, enroll)
      return inBatches(users, 8, async (user) => {
        if (user.codes.length === 0) user.codes = await totp.rotateBackupCodes(user.id)
        return post('/api/jwt/totp/verify/', {
          totp_challenge_token: await totp.generateChallengeToken(user.id),
          backup_code: user.codes.pop(),
        })
      })
    },
    async create(count) {
      const users = await atLeast(fresh, count, meet)
      return users.map(({ bearer }) => post('/api/totp/create/', {}, { authorization: bearer }))
    },
    status: (count) => asCallers('/api/totp/status/', count),
    guarded: (count) => asCallers(GUARDED, count),
  }
  return (work, count) => works[work](count)
}
