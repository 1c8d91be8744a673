import { authenticatorFor } from 'totp-kit/testing'
import { describe, expect, onTestFinished, test } from 'vitest'
import { grounds } from './databases.ts'
import { type Answer, now, startDemo } from './demo-process.ts'

/** The code of a refusal, the status of a success. */
async function outcome(call: Promise<Answer>): Promise<string | number> {
  const { status, body } = await call
  return body?.code ?? status
}

async function bodyOf(call: Promise<Answer>, expected = 200): Promise<Answer['body']> {
  const { status, body } = await call
  expect(status, JSON.stringify(body)).toBe(expected)
  return body
}

describe.for(Object.entries(grounds))('%s', ([, { isThere, make }]) => {
  test.skipIf(!isThere)(
    'four processes see one user through, from registration to disabling',
    { timeout: 60_000 },
    async () => {
      const ground = await make()
      onTestFinished(ground.drop)
      const demo = await startDemo({ ...ground.env, WORKERS: '4' })
      onTestFinished(demo.remove)
      const get = (path: string, bearer: string) => demo.call('GET', `/api/${path}`, { bearer, connection: 'close' })
      const post = (path: string, body: object, bearer?: string) =>
        demo.call('POST', `/api/${path}`, { body, connection: 'close', ...(bearer !== undefined && { bearer }) })
      const verify = (totp_challenge_token: string, code: object) =>
        post('jwt/totp/verify/', { totp_challenge_token, ...code })
      const refresh = ({ refresh }: { refresh: string }) => post('jwt/refresh/', { refresh })

      const ann = { username: 'ann', email: 'ann@example.com', password: 'correct horse' }
      expect(await outcome(post('register', ann))).toBe(201)
      expect(await outcome(post('register', ann))).toBe('validation_failed')
      expect(await outcome(post('jwt/create/', { ...ann, password: 'wrong horse' }))).toBe('invalid_credentials')
      const byPassword = await bodyOf(post('jwt/create/', ann))
      expect(byPassword.is_totp_enabled).toBe(false)

      const { uri } = await bodyOf(post('totp/create/', {}, byPassword.access), 201)
      expect((await bodyOf(get('totp/status/', byPassword.access))).is_totp_enabled).toBe(false)
      const phone = authenticatorFor(uri)
      const confirming = phone.codeAt(now())
      expect(await outcome(post('totp/confirm/', { input_code: '000000' }, byPassword.access))).toBe('invalid_code')
      const { backup_codes } = await bodyOf(post('totp/confirm/', { input_code: confirming }, byPassword.access))
      const on = { is_totp_enabled: true, backup_codes_remaining: 10 }
      expect(await bodyOf(get('totp/status/', byPassword.access))).toMatchObject(on)

      const challenge = async () => (await bodyOf(post('jwt/create/', ann))).totp_challenge_token
      const token = await challenge()
      const otp_code = phone.codeAt(now() + 30)
      expect(await outcome(get('me', token))).toBe('unauthenticated')
      expect(await outcome(verify(token, { otp_code: '000000' }))).toBe('invalid_code')
      expect(await outcome(verify(token, { otp_code: confirming }))).toBe('code_already_used')
      const byPhone = await bodyOf(verify(token, { otp_code }))
      expect((await bodyOf(get('me', byPhone.access))).amr).toEqual(['pwd', 'otp', 'mfa'])
      expect(await outcome(verify(token, { otp_code }))).toBe('challenge_invalid')
      expect(await outcome(verify(await challenge(), { otp_code }))).toBe('code_already_used')

      const refused = await get('vault', byPassword.access)
      expect(refused.headers.get('www-authenticate')).toContain('insufficient_user_authentication')
      expect(await outcome(get('vault', byPhone.access))).toBe(200)

      const [backup_code, forStepUp, stale] = backup_codes
      const byBackupCode = await bodyOf(verify(await challenge(), { backup_code }))
      expect(byBackupCode.backup_codes_remaining).toBe(9)
      expect(await outcome(verify(await challenge(), { backup_code }))).toBe('invalid_code')
      expect(await outcome(post('totp/verify/', { backup_code: forStepUp }, byPassword.access))).toBe(200)
      expect(await outcome(post('totp/verify/', { backup_code: forStepUp }, byPassword.access))).toBe('invalid_code')

      const next = await bodyOf(refresh(byPhone))
      expect(await outcome(refresh(byPhone))).toBe('invalid_token')
      expect(await outcome(refresh(next))).toBe('invalid_token')
      expect(await outcome(post('jwt/verify/', { token: next.access }))).toBe('invalid_token')
      expect(await outcome(post('jwt/verify/', { token: byBackupCode.access }))).toBe(200)

      const { access } = byBackupCode
      expect(await outcome(post('totp/rotate_backup_codes/', {}, byPassword.access))).toBe('step_up_required')
      const rotated = (await bodyOf(post('totp/rotate_backup_codes/', {}, access))).backup_codes
      expect(await outcome(verify(await challenge(), { backup_code: stale }))).toBe('invalid_code')
      expect(await outcome(verify(await challenge(), { backup_code: rotated[3] }))).toBe(200)
      expect(await outcome(get('totp/backup_codes/', byPassword.access))).toBe('step_up_required')
      const viewed = (await bodyOf(get('totp/backup_codes/', access))).backup_codes
      expect(viewed.map(({ code }: { code: string }) => code)).toEqual(rotated)
      expect(viewed.map(({ used_at }: { used_at: number | null }) => used_at !== null).indexOf(true)).toBe(3)

      expect(await outcome(post('totp/disable/', {}, byPassword.access))).toBe('step_up_required')
      expect(await outcome(post('totp/disable/', {}, access))).toBe(204)
      const off = { is_totp_enabled: false, backup_codes_remaining: 0, authenticators: [] }
      expect(await bodyOf(get('totp/status/', access))).toMatchObject(off)
      expect(await outcome(refresh(byPassword))).toBe('invalid_token')
      const last = await bodyOf(post('jwt/create/', ann))
      expect(last.is_totp_enabled).toBe(false)
      expect(await outcome(post('jwt/logout/', { refresh: last.refresh }))).toBe(204)
      expect(await outcome(refresh(last))).toBe('invalid_token')
    },
  )
})
