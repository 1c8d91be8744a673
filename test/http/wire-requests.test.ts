import { type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import express from 'express'
import { createTotp, generateFernetKey } from 'totp-kit'
import { expressTotp } from 'totp-kit/express'
import { fetchTotp } from 'totp-kit/fetch'
import { jwtTokens } from 'totp-kit/jwt'
import { nodeTotp } from 'totp-kit/node'
import { memoryStore } from 'totp-kit/store/memory'
import { describe, expect, onTestFinished, test } from 'vitest'
import { challenge, enroll, logIn, STEP, wrongCode } from './actors.ts'
import { answerOf, challengeIn, expectRulesOfEveryEndpoint } from './answer.ts'
import { EXPRESS, FETCH, type Front, fronts, listen, NODE, type Service, startService } from './harness.ts'
import { callerRows, fields, posts, type Row, rows } from './rows.ts'

const MAX_BODY_BYTES = 16 * 1024

/** A JSON object of exactly so many bytes, with a member that nobody declared. */
function objectOf(bytes: number): string {
  const object = JSON.stringify({ username: 'nobody-here', password: 'wrong horse', padding: '' })
  return object.replace('""', `"${'x'.repeat(bytes - object.length)}"`)
}

/** A body without a declared length. */
function streamOf(...chunks: (string | Uint8Array)[]): ReadableStream {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(Buffer.from(chunk as string))
      controller.close()
    },
  })
}

/** Every row for one framework; for the others one with a caller and one without: what differs is who reads the body. */
function sampleOf<R extends Row>(all: readonly R[], front: Front): R[] {
  return all.filter(({ path }) => front === FETCH || path === 'totp/disable' || path === 'jwt/verify')
}

const asJson = { 'content-type': 'application/json' }
const asForm = { 'content-type': 'application/x-www-form-urlencoded' }

async function bearerOf(service: Service): Promise<string> {
  return (await logIn(service, service.register('alice'))).access
}

describe.each(fronts)('$name: the request', (front) => {
  test('a path works with and without the final slash, and a query changes nothing', async () => {
    const service = await startService(front)
    const bearer = await bearerOf(service)
    for (const path of ['totp/status', 'totp/status/', 'totp/status?x=1', 'totp/status/?input_code=1']) {
      expect((await service.get(path, bearer)).outcome).toBe('200')
    }
    for (const { method, path, caller } of posts) {
      const json = { input_code: 5 }
      const [plain, slashed] = await Promise.all(
        [path, `${path}/`].map((p) => service.call({ method, path: p, json, bearer: caller ? bearer : undefined })),
      )
      expect(slashed?.body).toEqual(plain?.body)
    }
  })

  test('a path that is not ours is left to the host', async () => {
    const service = await startService(front)
    const host = await service.send({ method: 'GET', path: 'host' })
    expect(await host.text()).toBe('of the host')
    for (const path of [
      'totp',
      'totp/',
      'totp/create/x',
      'totp/create//',
      'totp//create/',
      'TOTP/create/',
      'totp/%63reate/',
      'totp/authenticators/',
      'totp/authenticators/a/b',
      'jwt/',
      '__proto__',
      'constructor/',
      '/totp/create/',
      '/apitotp/create/',
    ]) {
      const answer = await service.send({ path })
      expect(answer.status, path).toBe(404)
      expect(await answer.text(), path).toBe('nothing of the host either')
    }
  })

  test('a module that is not mounted is not ours', async () => {
    const service = await startService(front, { jwt: false })
    for (const { path } of rows.filter((row) => row.path.startsWith('jwt/'))) {
      expect((await service.send({ path })).status).toBe(404)
    }
    expect((await service.post('totp/create/')).outcome).toBe('401 unauthenticated')
  })

  test.each(sampleOf(rows, front))(
    '$method $path refuses every other method and names its own in Allow',
    async ({ method, path }) => {
      const service = await startService(front)
      const own = rows.filter((row) => row.path === path).map((row): string => row.method)
      const others = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].filter((other) => !own.includes(other))
      expect(own).toContain(method)
      for (const other of others) {
        const answer = await service.call({ method: other, path: `${path}/` })
        expect(answer.outcome).toBe('405 method_not_allowed')
        expect(answer.headers.allow).toBe(own.join(', '))
      }
      const head = await service.send({ method: 'HEAD', path })
      expect([head.status, head.headers.get('allow')]).toEqual([405, own.join(', ')])
    },
  )

  test.each(sampleOf(callerRows, front))(
    '$method $path needs a caller, whatever else is wrong',
    async ({ method, path }) => {
      const service = await startService(front)
      const { person, session } = await enroll(service)
      const credentials = [
        {},
        { authorization: 'Bearer' },
        { authorization: 'Bearer  ' },
        { authorization: 'Basic YWxpY2U6cGFzc3dvcmQ=' },
        { authorization: `Bearer ${session.access}x` },
        { authorization: `Bearer ${session.access} ${session.access}` },
        { authorization: `Bearer ${session.refresh}` },
        { authorization: `Bearer ${await challenge(service, person)}` },
      ]
      for (const headers of credentials) {
        const body = method === 'POST' ? { json: { input_code: 5 } } : {}
        const answer = await service.call({ method, path, headers, ...body })
        expect(answer.outcome).toBe('401 unauthenticated')
        expect(challengeIn(answer)).toEqual({ scheme: 'Bearer', parameters: {} })
      }
      service.deactivated.add(person.id)
      expect((await service.call({ method, path, bearer: session.access })).outcome).toBe('401 unauthenticated')
    },
  )
})

describe.each(fronts)('$name: the body', (front) => {
  test('a form is as good as JSON', async () => {
    const service = await startService(front)
    const { username, password } = service.register('alice')
    const answer = await service.call({ path: 'jwt/create/', form: { username, password } })
    expect(answer.body).toMatchObject({ is_totp_enabled: false })
    const wrong = await service.call({ path: 'jwt/create/', form: { username, password: `${password}!` } })
    expect(wrong.outcome).toBe('401 invalid_credentials')
  })

  test('a media type may name UTF-8 as its charset, in any case', async () => {
    const service = await startService(front)
    for (const type of ['application/json; charset=utf-8', 'Application/JSON;charset="UTF-8"']) {
      const answer = await service.call({ path: 'jwt/verify/', raw: '{}', headers: { 'content-type': type } })
      expect(answer.outcome).toBe('400 validation_failed')
    }
  })

  test('a form field that is sent twice is no text', async () => {
    const service = await startService(front)
    const { username, password } = service.register('alice')
    const form: [string, string][] = [
      ['username', username],
      ['password', 'wrong horse'],
      ['password', password],
    ]
    const answer = await service.call({ path: 'jwt/create/', form })
    expect(answer.outcome).toBe('400 validation_failed')
    expect(answer.body.errors).toEqual({ password: [expect.any(String)] })
  })

  test.each(sampleOf(posts, front))(
    '$path takes no body for an empty one',
    async ({ method, path, caller, required }) => {
      const service = await startService(front)
      const bearer = caller ? await bearerOf(service) : undefined
      const nothing = [
        { raw: '', headers: asJson },
        { raw: '', headers: asForm },
        { raw: '', headers: { 'content-type': 'text/plain' } },
        { raw: streamOf(), headers: asJson },
        { raw: '{}', headers: asJson },
        {},
      ]
      for (const body of nothing) {
        const { outcome } = await service.call({ method, path, bearer, ...body })
        if (Object.keys(required).length > 0) expect(outcome).toBe('400 validation_failed')
        else expect(outcome).toMatch(/^(201|400 totp_not_(set_up|enabled)|404 not_found|204)$/)
      }
    },
  )

  test('a body of 16 KiB is read, one byte more is too much, with and without a declared length', async () => {
    const service = await startService(front)
    for (const [raw, outcome] of [
      [objectOf(MAX_BODY_BYTES), '401 invalid_credentials'],
      [streamOf(objectOf(MAX_BODY_BYTES)), '401 invalid_credentials'],
      [objectOf(MAX_BODY_BYTES + 1), '413 payload_too_large'],
      [streamOf(objectOf(MAX_BODY_BYTES + 1)), '413 payload_too_large'],
      [objectOf(1024 * 1024), '413 payload_too_large'],
      [streamOf(...Array<string>(64).fill(objectOf(MAX_BODY_BYTES))), '413 payload_too_large'],
      // A length over the limit and a broken body: there is nothing to say of what is not read.
      ['{'.repeat(MAX_BODY_BYTES + 1), '413 payload_too_large'],
    ] as const) {
      expect((await service.call({ path: 'jwt/create/', raw, headers: asJson })).outcome).toBe(outcome)
    }
    const form = { username: 'nobody-here', password: 'wrong horse', padding: 'x'.repeat(MAX_BODY_BYTES) }
    expect((await service.call({ path: 'jwt/create/', form })).outcome).toBe('413 payload_too_large')
  })

  test.each(sampleOf(posts, front))(
    '$path refuses JSON that is broken or no object',
    async ({ method, path, caller }) => {
      const service = await startService(front)
      const bearer = caller ? await bearerOf(service) : undefined
      for (const raw of [
        '{',
        '{"a":1}}',
        "{'a':1}",
        ' ',
        'null',
        'true',
        '5',
        '"text"',
        '[]',
        '[{}]',
        'a=1',
        '\0',
        'NaN',
      ]) {
        const { outcome } = await service.call({ method, path, bearer, raw, headers: asJson })
        expect(outcome, raw).toBe('400 malformed_json')
      }
    },
  )

  test('JSON that nests thousands of levels deep is no failure of ours', async () => {
    const service = await startService(front)
    const deep = (levels: number) => `{"token":"not-a-token","x":${'['.repeat(levels)}${']'.repeat(levels)}}`
    for (const raw of [deep(8000), streamOf(deep(8000)), streamOf(deep(40_000))]) {
      const { status } = await service.call({ path: 'jwt/verify/', raw, headers: asJson })
      expect([401, 413]).toContain(status)
    }
    expect(service.errors).toEqual([])
  })

  test.each(sampleOf(posts, front))(
    '$path refuses another media type, another charset, and what is compressed',
    async (post) => {
      const { method, path, caller, required } = post
      const service = await startService(front)
      const bearer = caller ? await bearerOf(service) : undefined
      const json = JSON.stringify(required)
      const packed = new Uint8Array(gzipSync(json))
      for (const [raw, headers] of [
        [json, { 'content-type': 'text/plain' }],
        [json, { 'content-type': 'text/json' }],
        [json, { 'content-type': 'application/json-patch+json' }],
        [json, { 'content-type': 'application/jsonx' }],
        [json, { 'content-type': '' }],
        [json, { 'content-type': 'application/json; charset=utf-16' }],
        [json, { 'content-type': 'application/json; charset=iso-8859-1' }],
        ['a=1', { 'content-type': 'application/x-www-form-urlencoded; charset=iso-8859-1' }],
        ['--x\r\n\r\n--x--', { 'content-type': 'multipart/form-data; boundary=x' }],
        ['<a/>', { 'content-type': 'application/xml' }],
        [packed, { ...asJson, 'content-encoding': 'gzip' }],
        [json, { ...asJson, 'content-encoding': 'gzip' }],
        [json, { ...asJson, 'content-encoding': 'br' }],
        [json, { ...asJson, 'content-encoding': 'nonsense' }],
      ] as const) {
        const { outcome } = await service.call({ method, path, bearer, raw, headers })
        expect(outcome, JSON.stringify(headers)).toBe('415 unsupported_media_type')
      }
    },
  )

  test('members that nobody declared are ignored, not stored and not echoed', async () => {
    const service = await startService(front)
    const bearer = await bearerOf(service)
    const raw = `{"name":"Phone","__proto__":{"input_code":"a"},"constructor":"b","is_totp_enabled":true,"user_id":"99",
      "secret":"AAAAAAAAAAAAAAAA","extra":{"deep":["smuggled"]}}`
    const answer = await service.call({ path: 'totp/create/', bearer, raw, headers: asJson })
    expect(answer.outcome).toBe('201')
    expect(Object.keys(answer.body)).toEqual([
      'svg',
      'uri',
      'secret',
      'expires_in',
      'digits',
      'period',
      'algorithm',
      'issuer',
      'account_name',
      'replaces',
    ])
    expect(answer.text).not.toMatch(/AAAAAAAAAAAAAAAA|smuggled/)
    const status = await service.get('totp/status/', bearer)
    expect(status.body.is_totp_enabled).toBe(false)
    expect(status.text).not.toContain('smuggled')
    const form: [string, string][] = [
      ['__proto__', 'x'],
      ['a[b]', 'smuggled'],
      ['token', 'not-a-token'],
    ]
    expect((await service.call({ path: 'jwt/verify/', form })).outcome).toBe('401 invalid_token')
  })

  test.each(sampleOf(fields, front))('$path: $field of the wrong kind is refused and named', async (row) => {
    const { method, path, caller, required, optional, field } = row
    const service = await startService(front)
    const bearer = caller ? await bearerOf(service) : undefined
    const isOptional = field in optional
    const wrong = [null, '', 5, 123456, 0, true, false, [], ['123456'], {}, { length: 6 }, 'x'.repeat(4097)]
    const blank = field === 'password' ? [] : ['   ', '\t\n', '\u00a0\u3000']
    const notText = ['123\u0000456', '\u0000', 'a\ud800b', '\udc00']
    for (const value of [...wrong, ...blank, ...notText]) {
      const answer = await service.call({ method, path, json: { ...required, [field]: value }, bearer })
      expect(answer.outcome, JSON.stringify(value)).toBe('400 validation_failed')
      expect(answer.body.errors, JSON.stringify(value)).toEqual({ [field]: [expect.any(String)] })
    }
    if (!isOptional && field !== 'otp_code') {
      const { [field]: _, ...rest } = required
      const answer = await service.call({ method, path, json: rest, bearer })
      expect(answer.body).toMatchObject({ code: 'validation_failed', errors: { [field]: [expect.any(String)] } })
    }
  })

  test('all fields that are wrong are named at once', async () => {
    const service = await startService(front)
    const { body } = await service.post('jwt/create/', { username: ' ' })
    expect(body.errors).toEqual({ username: ['This field must not be blank.'], password: [expect.any(String)] })
  })

  test.each([
    ['totp/verify', {}],
    ['jwt/totp/verify', { totp_challenge_token: 'not-a-token' }],
  ])('%s wants exactly one of otp_code and backup_code', async (path, rest) => {
    const service = await startService(front)
    const bearer = await bearerOf(service)
    for (const codes of [{}, { otp_code: '123456', backup_code: 'AAAA-BBBB-CCCC-DDDD' }]) {
      const answer = await service.post(path, { ...rest, ...codes }, bearer)
      expect(answer.outcome).toBe('400 validation_failed')
      expect(answer.body.errors).toEqual({ otp_code: ['Send either otp_code or backup_code, but not both.'] })
    }
  })

  test('text is trimmed, a password is not', async () => {
    const service = await startService(front)
    const spaced = service.register('alice', '  two spaces each side  ')
    const refused = [spaced.password.trim(), ` ${spaced.password}`]
    for (const password of refused) {
      const { outcome } = await service.post('jwt/create/', { username: 'alice', password })
      expect(outcome).toBe('401 invalid_credentials')
    }
    const { body } = await service.post('jwt/create/', { username: ' \talice\n', password: spaced.password })
    expect(body.is_totp_enabled).toBe(false)
    expect((await service.post('jwt/verify/', { token: ` ${body.access} ` })).outcome).toBe('200')
    await service.post('totp/create/', { name: '  My phone  ' }, String(body.access))
    const blank = service.register('bob', '   ')
    expect((await service.post('jwt/create/', { username: 'bob', password: blank.password })).outcome).toBe('200')
  })
})

describe.each(fronts)('$name: a code', (front) => {
  const spellings: [string, (code: string) => string][] = [
    ['with a space in the middle', (code) => `${code.slice(0, 3)} ${code.slice(3)}`],
    ['with spaces all over', (code) => ` ${[...code].join(' ')} `],
    ['with a hyphen', (code) => `${code.slice(0, 3)}-${code.slice(3)}`],
    ['with a no-break space and an en dash', (code) => `${code.slice(0, 3)}\u00a0\u2013${code.slice(3)}`],
    ['in full-width digits', (code) => code.replace(/\d/g, (d) => String.fromCharCode(d.charCodeAt(0) + 0xfee0))],
  ]
  test.each(spellings)('is taken %s', async (_, spell) => {
    const service = await startService(front)
    const { session, phone } = await enroll(service)
    service.clock.advance(STEP)
    const code = phone.codeAt(service.clock.now())
    const answer = await service.post('totp/verify/', { otp_code: spell(code) }, session.access)
    expect(answer.outcome).toBe('200')
    const again = await service.post('totp/verify/', { otp_code: code }, session.access)
    expect(again.outcome).toBe('400 code_already_used')
  })

  test('is a text of exactly six digits: nothing else ever passes', async () => {
    const service = await startService(front, { tokens: { accessTokenSeconds: 86_400 } })
    const { session, phone } = await enroll(service)
    const near: [string, (code: string) => unknown][] = [
      ['validation_failed', (code) => Number(code)],
      ['validation_failed', (code) => [code]],
      ['validation_failed', (code) => [...code]],
      ['validation_failed', (code) => ({ code })],
      ['validation_failed', (code) => ({ toString: code, length: 6 })],
      ['validation_failed', (code) => `${code}\u0000`],
      ['invalid_code', (code) => code.slice(1)],
      ['invalid_code', (code) => code.slice(0, 5)],
      ['invalid_code', (code) => `${code}0`],
      ['invalid_code', (code) => `0${code}`],
      ['invalid_code', (code) => `${code}x`],
      ['invalid_code', (code) => `${code.slice(0, 5)}x`],
      ['invalid_code', (code) => `+${code}`],
      ['invalid_code', (code) => `${code}.0`],
      ['invalid_code', (code) => `0x${Number(code).toString(16)}`],
      ['invalid_code', (code) => code.replace(/\d/g, (d) => String.fromCharCode(Number(d) + 0x0660))],
      ['invalid_code', () => '12345'],
      ['invalid_code', () => '123456x'],
      ['invalid_code', () => '---'],
      ['invalid_code', () => wrongCode(service, phone)],
    ]
    for (const [refusal, misspell] of near) {
      // Longer than every delay, so that each is judged.
      service.clock.advance(900)
      const otp_code = misspell(phone.codeAt(service.clock.now()))
      const answer = await service.post('totp/verify/', { otp_code }, session.access)
      expect(answer.outcome, JSON.stringify(otp_code)).toBe(`400 ${refusal}`)
    }
    service.clock.advance(900)
    const right = await service.post('totp/verify/', { otp_code: phone.codeAt(service.clock.now()) }, session.access)
    expect(right.outcome).toBe('200')
  })
})

describe.each(fronts.filter(({ parsesBefore }) => !parsesBefore))('$name: bytes', (front) => {
  test.each(sampleOf(posts, front))('$path refuses bytes that are no UTF-8', async ({ method, path, caller }) => {
    const service = await startService(front)
    const bearer = caller ? await bearerOf(service) : undefined
    const invalid = [
      Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d),
      Uint8Array.of(0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d),
      Uint8Array.of(0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x3a, 0x31, 0x7d),
    ]
    for (const raw of invalid) {
      for (const headers of [asJson, asForm]) {
        expect((await service.call({ method, path, bearer, raw, headers })).outcome).toBe('400 malformed_json')
      }
    }
  })
})

async function unthrottled() {
  const encryptionKey = generateFernetKey()
  const totp = await createTotp({ issuer: 'Acme', encryptionKey, store: memoryStore(), rateLimit: 'off' })
  return { totp, host: { caller: () => null } }
}

describe.each(fronts.filter((front) => front !== FETCH))('$name: on the wire itself', (front) => {
  /** Writes to a socket, and gives what comes back until the other side is done or hung up on. */
  function exchange(port: number, text: string, hangUp = false): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1')
      let received = ''
      socket.on('data', (chunk) => {
        received += chunk
      })
      socket.on('close', () => resolve(received))
      socket.on('error', reject)
      socket.write(text, () => hangUp && socket.destroy())
    })
  }
  const head = (target: string, ...more: string[]) =>
    [`POST ${target} HTTP/1.1`, 'Host: service.test', 'Connection: close', ...more, '', ''].join('\r\n')

  test('a target may name the whole URL', async () => {
    const service = await startService(front)
    const answer = await exchange(service.port, head('http://service.test/api/totp/create/?x=/', 'Content-Length: 0'))
    expect(answer).toMatch(/^HTTP\/1\.1 401 /)
    expect(answer).toContain('"code":"unauthenticated"')
  })

  // A parser in front waits for the whole of a body that it refuses.
  if (!front.parsesBefore) {
    test('a length that is declared too large is refused before the body comes', async () => {
      const service = await startService(front)
      const length = `Content-Length: ${MAX_BODY_BYTES * 64}`
      const target = '/api/jwt/create/'
      const answer = await exchange(service.port, head(target, length, 'Content-Type: application/json'))
      expect(answer).toMatch(/^HTTP\/1\.1 413 /)
    })
  }

  test('a client that goes away in the middle of its body harms nobody', async () => {
    const service = await startService(front)
    for (const more of ['Content-Length: 100', 'Transfer-Encoding: chunked']) {
      const begun = head('/api/jwt/create/', more, 'Content-Type: application/json')
      await exchange(service.port, `${begun}${more.includes('chunked') ? '5\r\n' : ''}{"use`, true)
    }
    expect((await service.post('jwt/verify/', { token: 'not-a-token' })).outcome).toBe('401 invalid_token')
    expect(service.errors).toEqual([])
  })
})

describe('a body that the host has read before us', () => {
  test.each([
    ['and left where frameworks leave it', { body: { token: 'not-a-token' } }, '401 invalid_token'],
    ['and kept for itself', {}, '400 validation_failed'],
  ])('over node:http, %s, is not waited for', async (_how, left, outcome) => {
    const { totp, host } = await unthrottled()
    const handler = nodeTotp(totp, { ...host, jwt: jwtTokens(totp, { authenticate: async () => null }) })
    const { send, close } = await listen(async (request, response) => {
      for await (const _ of request);
      await handler(Object.assign(request, left), response)
    })
    onTestFinished(close)
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"token":"not-a-token"}' }

    expect((await answerOf(await send('/api/jwt/verify/', init))).outcome).toBe(outcome)
  })
})

describe('where the host has nothing else', () => {
  test('node:http answers 404 for a path that is not ours', async () => {
    const { totp, host } = await unthrottled()
    const { send, close } = await listen(nodeTotp(totp, host))
    onTestFinished(close)
    for (const path of ['/api/totp/nothing/', '/api/jwt/create/', '/', '/apix/totp/create']) {
      const answer = await answerOf(await send(path, { method: 'POST' }))
      expectRulesOfEveryEndpoint(answer)
      expect(answer.outcome).toBe('404 not_found')
    }
  })

  test('Fetch answers 404 for a path that is not ours', async () => {
    const { totp, host } = await unthrottled()
    const handler = fetchTotp(totp, { ...host, clientAddress: () => null })
    for (const path of ['/api/totp/nothing/', '/api/jwt/create/', '/', '/apix/totp/create']) {
      const answer = await answerOf(await handler(new Request(`http://service.test${path}`, { method: 'POST' })))
      expectRulesOfEveryEndpoint(answer)
      expect(answer.outcome).toBe('404 not_found')
    }
  })

  test.each(['', '/', '/v1/auth', '/v1/auth/'])('the endpoints stand under the basePath %j', async (basePath) => {
    const { totp, host } = await unthrottled()
    const base = basePath.replace(/\/$/, '')
    const { send, close } = await listen(nodeTotp(totp, { ...host, basePath }))
    onTestFinished(close)
    const handler = fetchTotp(totp, { ...host, basePath, clientAddress: () => null })
    const path = `${base}/totp/create/`
    const [byNode, byFetch] = await Promise.all([
      send(path, { method: 'POST' }),
      handler(new Request(`http://service.test${path}`, { method: 'POST' })),
    ])
    expect([byNode.status, byFetch.status]).toEqual([401, 401])
  })
})

describe('Express', () => {
  test.each([
    ['text', express.text({ type: '*/*' })],
    ['bytes', express.raw({ type: '*/*' })],
    ['an object with nested members', express.urlencoded({ extended: true })],
    ['anything that JSON can say', express.json({ strict: false, limit: '1mb' })],
  ])('a parser in front that leaves %s takes nothing away from the rules', async (_, parser) => {
    const { totp } = await unthrottled()
    const app = express().use(parser, expressTotp(totp, { caller: () => ({ id: '1', accountName: 'alice' }) }))
    const { send, close } = await listen(app)
    onTestFinished(close)
    for (const [body, type, outcome] of [
      ['{"input_code":"123456"}', 'application/json', '400 totp_not_set_up'],
      ['input_code=123456', 'application/x-www-form-urlencoded', '400 totp_not_set_up'],
      ['{"input_code":5}', 'application/json', '400 validation_failed'],
      ['input_code[a]=5', 'application/x-www-form-urlencoded', '400 validation_failed'],
      ['null', 'application/json', '400 malformed_json'],
      ['5', 'application/json', '400 malformed_json'],
      ['"text"', 'application/json', '400 malformed_json'],
      ['{', 'application/json', '400 malformed_json'],
      ['{}', 'text/plain', '415 unsupported_media_type'],
      [objectOf(MAX_BODY_BYTES + 1), 'application/json', '413 payload_too_large'],
      ['', 'application/json', '400 validation_failed'],
    ] as const) {
      const answer = await answerOf(
        await send('/totp/confirm/', { method: 'POST', body, headers: { 'content-type': type } }),
      )
      expectRulesOfEveryEndpoint(answer)
      expect(answer.outcome, `${type} ${body.slice(0, 40)}`).toBe(outcome)
    }
  })

  test.each([
    ['nests too deep', `a${'[b]'.repeat(40)}=1`, '400 malformed_json'],
    ['has too many fields', 'a=1&'.repeat(1100), '413 payload_too_large'],
  ])('a form that %s for the parser in front is refused in our words', async (_, body, outcome) => {
    const { totp } = await unthrottled()
    const app = express().use(express.urlencoded({ extended: true }), expressTotp(totp, { caller: () => null }))
    const { send, close } = await listen(app)
    onTestFinished(close)
    const answer = await answerOf(await send('/totp/create/', { method: 'POST', body, headers: asForm }))
    expectRulesOfEveryEndpoint(answer)
    expect(answer.outcome).toBe(outcome)
  })

  test('what a parser failed on is refused, a GET too: the checks of the host that come after it were skipped', async () => {
    const { totp } = await unthrottled()
    const app = express().use(express.json())
    app.use((_request, response) => void response.status(403).send('closed by the host'))
    app.use(expressTotp(totp, { caller: () => ({ id: '1', accountName: 'alice' }) }))
    const { port, close } = await listen(app)
    onTestFinished(close)
    const answer = await new Promise<IncomingMessage>((resolve) => {
      const headers = { ...asJson, 'content-length': '1' }
      request({ port, host: '127.0.0.1', path: '/totp/status/', headers }, resolve).end('{')
    })
    expect([answer.statusCode, answer.headers['content-type']]).toEqual([400, 'application/problem+json'])
  })

  test("what fails on the host's own paths is the host's to word", async () => {
    const { totp } = await unthrottled()
    const app = express().use(express.json(), expressTotp(totp, { caller: () => null }))
    app.use(((error, _request, response, _next) => {
      response.status(418).send(String(error.type))
    }) satisfies express.ErrorRequestHandler)
    const { send, close } = await listen(app)
    onTestFinished(close)
    const broken = { method: 'POST', body: '{', headers: asJson }
    const answer = await send('/orders', broken)
    expect([answer.status, await answer.text()]).toEqual([418, 'entity.parse.failed'])
    expect((await send('/totp/create/', broken)).status).toBe(400)
  })
})

describe.each([NODE, EXPRESS, FETCH])('$name: a route of the host that wants a second factor', (front) => {
  test('is open to a fresh one only, and says what is missing', async () => {
    const service = await startService(front)
    const vault = async (bearer?: string) => answerOf(await service.send({ method: 'GET', path: '/vault', bearer }))
    const stranger = await vault()
    expectRulesOfEveryEndpoint(stranger)
    expect(stranger.outcome).toBe('401 unauthenticated')

    const { session, phone } = await enroll(service)
    const stale = await vault(session.access)
    expectRulesOfEveryEndpoint(stale)
    expect(stale.outcome).toBe('401 step_up_required')
    expect(challengeIn(stale).parameters).toMatchObject({ max_age: '300' })

    service.clock.advance(STEP)
    const otp_code = phone.codeAt(service.clock.now())
    const { access } = (await service.post('totp/verify/', { otp_code }, session.access)).body
    expect((await vault(String(access))).text).toBe('gold')

    service.broken.add('getUser')
    const failed = await vault(String(access))
    expectRulesOfEveryEndpoint(failed)
    expect(failed.outcome).toBe('503 unavailable')
    expect(service.errors).toHaveLength(1)
  })
})
