import { isDeepStrictEqual } from 'node:util'
import express from 'express'
import { createTotp, generateFernetKey } from 'totp-kit'
import { expressTotp } from 'totp-kit/express'
import { fetchTotp } from 'totp-kit/fetch'
import { memoryStore } from 'totp-kit/store/memory'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createHandle } from '../../src/http/handle.ts'
import { enroll, logInWith } from './actors.ts'
import { answerOf, expectRulesOfEveryEndpoint, STATUS_OF } from './answer.ts'
import { expectDocumented, type OpenApi, type Operation } from './documented.ts'
import { exerciseAll } from './exercise-all.ts'
import { FETCH, fronts, listen, type Service, startService } from './harness.ts'
import { fields, rows } from './rows.ts'

async function documentOf(service: Service, path = 'totp/openapi.json'): Promise<OpenApi> {
  const answer = await answerOf(await service.send({ method: 'GET', path }))
  expectRulesOfEveryEndpoint(answer)
  expect(answer.status).toBe(200)
  return JSON.parse(answer.text) as OpenApi
}

function operationsIn({ paths }: OpenApi): (Operation & { method: string; path: string })[] {
  return Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ method: method.toUpperCase(), path, ...operation })),
  )
}

describe.each(fronts)('$name: the OpenAPI document', (front) => {
  test('is served to anybody and lists exactly what is mounted', async () => {
    const service = await startService(front)
    const document = await documentOf(service)
    expect(document.openapi).toBe('3.1.0')
    expect(document.info.title).toContain('Acme')
    expect(document.servers).toEqual([{ url: '/api' }])
    const listed = operationsIn(document).map(({ operationId, method, path }) => [operationId, method, path])
    expect(listed.sort()).toEqual(
      rows.map(({ operationId, method, template }) => [operationId, method, `/${template}/`]).sort(),
    )
    expect(await documentOf(service, 'totp/openapi.json/')).toEqual(document)
    expect((await service.send({ path: 'totp/openapi.json' })).status).toBe(405)
  })

  test('does not list the endpoints of a module that is not mounted', async () => {
    const service = await startService(front, { jwt: false, recovery: false })
    const listed = operationsIn(await documentOf(service)).map(({ path }) => path)
    expect(listed.sort()).toEqual(
      rows
        .filter(({ template }) => template.startsWith('totp/') && !template.startsWith('totp/recovery'))
        .map(({ template }) => `/${template}/`)
        .sort(),
    )
  })
})

describe('an operation of the OpenAPI document', () => {
  test('names its fields, which of them it needs, and both media types', async () => {
    const operations = operationsIn(await documentOf(await startService(FETCH)))
    for (const { operationId, requestBody } of operations) {
      const row = rows.find((row) => row.operationId === operationId)
      const own = fields.filter((field) => field.operationId === operationId).map(({ field }) => field)
      if (own.length === 0) {
        expect(requestBody, operationId).toBeUndefined()
        continue
      }
      const media = requestBody?.content ?? {}
      expect(Object.keys(media)).toEqual(['application/json', 'application/x-www-form-urlencoded'])
      const { schema } = media['application/json'] ?? {}
      const declared = Object.keys(schema?.properties ?? {})
      expect(declared, operationId).toEqual(expect.arrayContaining(own))
      expect(requestBody?.required, operationId).toBe(Object.keys(row?.required ?? {}).length > 0)
      const required = (schema?.required ?? []) as string[]
      // Which of two alternatives is given is for the caller to choose.
      const needed = Object.keys(row?.required ?? {}).filter((field) => field !== 'otp_code')
      expect([...required].sort(), operationId).toEqual(needed.sort())
    }
  })

  test('asks for the log-in of the host where a caller is needed, and says what it is', async () => {
    const document = await documentOf(await startService(FETCH))
    for (const { operationId, security, summary, tags, path } of operationsIn(document)) {
      const { caller } = rows.find((row) => row.operationId === operationId) ?? {}
      expect(security).toEqual(caller ? [{ caller: [] }] : [])
      expect(summary).toMatch(/^[A-Z].{8,}/)
      expect(tags).toEqual([path.startsWith('/totp/recovery') ? 'recovery' : path.split('/')[1]])
    }
  })

  test('declares refusals of the closed list only, each under its status', async () => {
    const document = await documentOf(await startService(FETCH))
    for (const { responses } of operationsIn(document)) {
      for (const [status, { description, content }] of Object.entries(responses)) {
        if (Number(status) < 400) continue
        for (const code of description.split(', ')) expect(STATUS_OF[code]).toBe(Number(status))
        expect(Object.keys(content ?? {})).toEqual(['application/problem+json'])
      }
    }
    const every = (codes: string[]) => isDeepStrictEqual(codes.sort(), Object.keys(STATUS_OF).sort())
    expect(document.components.schemas.Problem).toMatchObject({
      properties: { code: { enum: expect.toSatisfy(every) } },
    })
  })

  test('names the basePath as its server', async () => {
    const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })
    const host = { caller: () => null }
    for (const [basePath, url] of [
      ['/v1/auth/', '/v1/auth'],
      ['/', '/'],
      ['', '/'],
    ] as const) {
      const handler = fetchTotp(totp, { ...host, basePath, clientAddress: () => null })
      const path = `http://service.test${basePath.replace(/\/$/, '')}/totp/openapi.json`
      const byFetch = (await (await handler(new Request(path))).json()) as OpenApi
      expect(byFetch.servers).toEqual([{ url }])
      const app = express().use(basePath === '' ? '/' : basePath, expressTotp(totp, host))
      const { send, close } = await listen(app)
      onTestFinished(close)
      const answer = await send(`${basePath.replace(/\/$/, '')}/totp/openapi.json`, {})
      expect(((await answer.json()) as OpenApi).servers).toEqual([{ url }])
    }
  })
})

test('the document is made once, however clients spell the path to it', async () => {
  const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })
  const handle = createHandle(totp, { caller: () => null })
  const documentAt = async (basePath: string) => {
    return (await handle({ method: 'GET', path: '/totp/openapi.json', basePath, headers: {} }, undefined))?.body
  }
  /** Processor time of 300 answers, in milliseconds. */
  const costOf = async (spellings: readonly string[]) => {
    const before = process.cpuUsage()
    for (let n = 0; n < 300; n++) await documentAt(String(spellings[n % spellings.length]))
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 1000
  }
  expect(JSON.parse(String(await documentAt('/Api')))).toMatchObject({ servers: [{ url: '/Api' }], openapi: '3.1.0' })
  await costOf(['/api'])

  const one = await costOf(['/api'])
  const inTurn = await costOf(['/api', '/Api', '/aPi'])

  // Making it takes about a millisecond, so 300 of them would be at 300.
  expect(inTurn).toBeLessThan(5 * one + 50)
})

test.each(fronts)('$name: what is answered is what the document declares', async (front) => {
  const service = await startService(front, { maxAuthenticators: 2 })
  const seen = await exerciseAll(service)
  expect(Object.keys(seen).sort()).toEqual(rows.map(({ operationId }) => operationId).sort())
  for (const [operationId, answers] of Object.entries(seen)) {
    const statuses = answers.map(({ status }) => status)
    expect(
      statuses.some((status) => status < 300),
      operationId,
    ).toBe(true)
    expect(
      statuses.some((status) => status >= 400),
      operationId,
    ).toBe(true)
  }
})

test('the document refuses what it does not declare', async () => {
  const service = await startService(FETCH)
  const document = await documentOf(service)
  const { person, backupCodes } = await enroll(service)
  const { access } = await logInWith(service, person, { backup_code: String(backupCodes[0]) })
  const call = { method: 'GET', path: 'totp/status/' }
  const answer = await service.get(call.path, access)
  expectDocumented(document, call, answer)
  for (const wrong of [
    { ...answer, status: 201 },
    { ...answer, headers: { 'content-type': 'text/html' } },
    { ...answer, body: { ...answer.body, secret: 'A' } },
    { ...answer, body: { ...answer.body, is_totp_enabled: 'yes' } },
    { ...answer, body: {} },
  ]) {
    expect(() => expectDocumented(document, call, wrong)).toThrow()
  }
  const refused = await service.get(call.path)
  for (const code of ['invalid_code', 'step_up_required', 'nonsense']) {
    expect(() => expectDocumented(document, call, { ...refused, body: { ...refused.body, code } })).toThrow()
  }
})

test('the document names the way in which callers of the host authenticate', async () => {
  const totp = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })
  const securityScheme = { type: 'apiKey', in: 'cookie', name: 'sid' } as const
  const handler = fetchTotp(totp, { caller: () => null, clientAddress: () => null, securityScheme })
  const answer = await handler(new Request('http://service.test/api/totp/openapi.json'))
  expect(((await answer.json()) as OpenApi).components.securitySchemes).toEqual({ caller: securityScheme })
})

test('the document has named schemas, and says that exactly one of two codes is given', async () => {
  const document = await documentOf(await startService(FETCH))
  expect(Object.keys(document.components.schemas)).toEqual(
    expect.arrayContaining(['Setup', 'Status', 'TokenPair', 'Challenge', 'Problem', 'Authenticator']),
  )
  const verify = operationsIn(document).find(({ operationId }) => operationId === 'answerChallenge')
  expect(verify?.requestBody?.content['application/json']?.schema).toMatchObject({
    oneOf: [{ required: ['otp_code'] }, { required: ['backup_code'] }],
  })
})
