// One person who uses the host all day, with an app, backup codes and a bad memory. Every answer is held against what
// this person knows: no code is accepted twice, and no answer is a 500.
import { authenticatorFor } from 'totp-kit/testing'

const STEP = 30

export function person(id, { servers, clock, say, linkOf }) {
  /** Secrets that may be live: where an answer was lost, both the old and the new one. */
  let phones = []
  let codes = []
  let tokens = null
  let device = null
  /** When codes of the app are judged again. */
  let waitsUntil = 0
  const accepted = new Set()

  const pick = (list) => list[Math.floor(Math.random() * list.length)]
  const chance = (part) => Math.random() < part

  async function ask(method, path, body, headers = {}) {
    const bearer = tokens ? { authorization: `Bearer ${tokens.access}` } : {}
    const response = await fetch(`http://127.0.0.1:${pick(servers)}/api/${path}/`, {
      method,
      headers: { 'content-type': 'application/json', ...bearer, ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    const answer = text === '' ? {} : JSON.parse(text)
    say('answer', response.status)
    // Locked codes help nobody: this person goes on with backup codes and the mailbox.
    if (answer.code === 'second_factor_locked' && path.includes('totp/')) waitsUntil = Infinity
    if (answer.code === 'too_many_attempts') waitsUntil = clock() + Number(response.headers.get('retry-after'))
    if (response.status >= 500 && response.status !== 503) say('wrong', `${method} ${path}: ${response.status} ${text}`)
    return { status: response.status, ok: response.ok, answer }
  }

  /** A code is spent once: of two answers that accept it, one is wrong. */
  function accept(phone, step) {
    const key = `${phone.uri} ${step}`
    if (accepted.has(key)) say('wrong', `${id}: a code was accepted twice`)
    accepted.add(key)
    if (accepted.size > 50) accepted.delete(accepted.values().next().value)
  }

  async function prove(send) {
    for (const phone of clock() < waitsUntil ? [] : phones) {
      const step = Math.floor(clock() / STEP)
      const code = phone.codeAt(step * STEP)
      const both = chance(0.2) ? [send({ otp_code: code }), send({ otp_code: code })] : [send({ otp_code: code })]
      const answers = await Promise.all(both)
      const good = answers.filter(({ ok }) => ok)
      if (good.length > 1) say('wrong', `${id}: one code, two sessions`)
      if (good.length === 0) continue
      accept(phone, step)
      phones = [phone, ...phones.filter((other) => other !== phone)]
      say('done', 'code')
      if (chance(0.2)) {
        const again = await send({ otp_code: code })
        if (again.ok) accept(phone, step)
      }
      return good[0]
    }
    const backup_code = codes.pop()
    if (backup_code === undefined || !chance(0.3)) return null
    const answers = await Promise.all([send({ backup_code }), send({ backup_code })])
    const good = answers.filter(({ ok }) => ok)
    if (good.length > 1) say('wrong', `${id}: a backup code was accepted twice`)
    if (good.length > 0) say('done', 'backup code')
    return good[0] ?? null
  }

  async function logIn() {
    tokens = null
    const first = await ask('POST', 'jwt/create', {
      username: id,
      password: `of ${id}`,
      ...(device === null ? {} : { trusted_device: device }),
    })
    if (!first.ok) return
    device = first.answer.trusted_device ?? null
    if (first.answer.access) {
      tokens = first.answer
      return
    }
    const trust_device = chance(0.1)
    const challenge = { totp_challenge_token: first.answer.totp_challenge_token, trust_device }
    if (chance(0.15)) await ask('POST', 'jwt/totp/verify', { ...challenge, otp_code: '000000' })
    const second = await prove((code) => ask('POST', 'jwt/totp/verify', { ...challenge, ...code }))
    if (second) {
      tokens = second.answer
      device = second.answer.trusted_device ?? device
    }
  }

  async function enroll() {
    const created = await ask('POST', 'totp/create', {})
    if (!created.ok) return
    const phone = { ...authenticatorFor(created.answer.uri), uri: created.answer.uri }
    const step = Math.floor(clock() / STEP)
    phones = [phone, ...phones].slice(0, 4)
    const confirmed = await ask('POST', 'totp/confirm', { input_code: phone.codeAt(step * STEP) })
    if (!confirmed.ok) return
    accept(phone, step)
    say('done', 'enrollment')
    codes = confirmed.answer.backup_codes ?? codes
  }

  async function recover() {
    tokens = null
    const link = linkOf(id)
    if (!(await ask('POST', 'totp/recovery', { email: `${id}@x.example` })).ok) return
    const url = await link
    if (url === null) return
    const { uid, token } = Object.fromEntries(new URLSearchParams(new URL(url).hash.slice(1)))
    const way = chance(0.5) ? ['recovery_cancel', {}] : ['recovery_confirm', { password: `of ${id}` }]
    const answer = await ask('POST', `totp/${way[0]}`, { uid, token, ...way[1] })
    if (answer.ok) say('done', way[0])
    if (answer.ok && way[0] === 'recovery_confirm') [phones, codes, waitsUntil] = [[], [], 0]
  }

  const acts = [
    [4, enroll],
    [2, () => ask('GET', 'totp/status')],
    [
      2,
      async () => {
        const rotated = await ask('POST', 'totp/rotate_backup_codes', {})
        if (rotated.ok) codes = rotated.answer.backup_codes
      },
    ],
    [
      1,
      async () => {
        const off = await ask('POST', 'totp/disable', {})
        if (off.ok) [phones, codes] = [[], []]
      },
    ],
    [
      3,
      async () => {
        const old = tokens
        const fresh = await ask('POST', 'jwt/refresh', { refresh: old.refresh })
        if (!fresh.ok) return logIn()
        tokens = fresh.answer
        if (chance(0.1) && (await ask('POST', 'jwt/refresh', { refresh: old.refresh })).ok) {
          say('wrong', `${id}: a refresh token was accepted twice`)
        }
      },
    ],
    [2, () => prove((code) => ask('POST', 'totp/verify', code))],
    [
      1,
      async () => {
        await ask('POST', 'jwt/logout', { refresh: tokens.refresh })
        tokens = null
      },
    ],
    [1, recover],
  ]
  const weighted = acts.flatMap(([weight, act]) => Array.from({ length: weight }, () => act))

  return {
    /** One act: logs in where there is no session. */
    async act() {
      if (tokens === null || chance(0.3)) await logIn()
      if (tokens !== null) await pick(weighted)()
      else if (waitsUntil === Infinity) await recover()
    },
  }
}
