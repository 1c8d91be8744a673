import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { builtinModules } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import * as otpauth from 'otpauth'
import { generateFernetKey } from 'totp-kit'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import manifest from '../package.json' with { type: 'json' }
import lock from '../package-lock.json' with { type: 'json' }
import { fencesOf, ROOT } from './markdown.ts'

/** What a user of the quick start installs beside the package. */
const BESIDE = ['express', 'libsql', 'typescript', '@types/node', '@types/express']

const run = promisify(execFile)
const doors = Object.keys(manifest.exports).map((door) => door.replace('.', manifest.name))
const modules = doors.filter((door) => !door.endsWith('.json'))
/** Stands in the temporary folder: an application that has installed the tarball. */
let app: string
let packed: string[]
let tarballName: string

beforeAll(async () => {
  app = await mkdtemp(join(tmpdir(), 'totp-kit-pack-'))
  // Without scripts: `prepack` would build while other tests read dist/.
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', app], { cwd: ROOT })
  const [tarball] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }]
  packed = tarball.files.map(({ path }) => path)
  tarballName = tarball.filename
  await writeFile(join(app, 'server.mjs'), quickStart())
  await writeFile(join(app, 'server.mts'), quickStart())
  await copyFile(join(ROOT, 'test/exact-host.ts'), join(app, 'exact-host.mts'))
  await install(`file:${tarball.filename}`)
}, 240_000)

afterAll(async () => {
  await rm(app, { recursive: true })
})

/** The one complete program of the README. */
function quickStart(): string {
  const programs = fencesOf('README.md').filter(({ marks }) => marks.includes('file=server.mjs'))
  const [program] = programs
  if (program === undefined || programs.length !== 1) throw new Error('the README has not one server.mjs')
  return program.code
}

/** Installs the tarball and what belongs beside it, every package at the version of our own lock file. */
async function install(tarball: string): Promise<void> {
  const { '': _, ...packages } = lock.packages as Record<string, { version?: string }>
  const beside = BESIDE.map((name) => [name, packages[`node_modules/${name}`]?.version])
  const root = { name: 'app', private: true, dependencies: { 'totp-kit': tarball, ...Object.fromEntries(beside) } }
  await writeFile(join(app, 'package.json'), JSON.stringify(root))
  await writeFile(join(app, 'package-lock.json'), JSON.stringify({ ...lock, packages: { '': root, ...packages } }))
  const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts']
  await run('npm', ['install', ...flags], { cwd: app })
}

describe('the tarball', () => {
  test('holds what was built and the documents, and nothing else', () => {
    const foreign = packed.filter((path) => !/^dist\/.+\.(js|d\.ts)(\.map)?$/.test(path))

    expect(foreign.sort()).toEqual(['CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md', 'package.json'])
    expect(packed.filter((path) => path.includes('.test.'))).toEqual([])
  })

  test('needs no package that it does not declare', async () => {
    const declared = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)]
    const found = await Promise.all(packed.filter((path) => /\.js$/.test(path)).map(bareImportsOf))
    const needed = [...new Set(found.flat())].filter((name) => !isBuiltin(name))

    expect(needed.filter((name) => !declared.includes(name))).toEqual([])
    expect(Object.keys(manifest.dependencies).filter((name) => !needed.includes(name))).toEqual([])
  })

  test('names in its types no package but those it declares, and the two whose types a user of the door has', async () => {
    const found = await Promise.all(packed.filter((path) => path.endsWith('.d.ts')).map(bareImportsOf))
    const needed = [...new Set(found.flat())].filter((name) => !isBuiltin(name))

    expect(needed.filter((name) => !Object.hasOwn(manifest.dependencies, name))).toEqual(['express'])
  })
})

/** The packages that a file of the tarball imports, by name. */
async function bareImportsOf(path: string): Promise<string[]> {
  const text = await readFile(join(app, 'node_modules/totp-kit', path), 'utf8')
  const { importedFiles } = ts.preProcessFile(text, true, true)
  const bare = importedFiles.map(({ fileName }) => fileName).filter((name) => !name.startsWith('.'))
  return bare.map((name) => (name.startsWith('@') ? name.split('/').slice(0, 2).join('/') : (name.split('/')[0] ?? '')))
}

function isBuiltin(name: string): boolean {
  return name.startsWith('node:') || builtinModules.includes(name)
}

describe('the installed package', () => {
  test.each(doors.filter((door) => door.endsWith('.json')))('opens the door %s', async (door) => {
    const { stdout } = await node(`console.log((await import('${door}', { with: { type: 'json' } })).default.version)`)

    expect(stdout.trim()).toBe(manifest.version)
  })

  test.each(modules)('opens the door %s to import and to require', async (door) => {
    const { stdout } = await node(`
      import { createRequire } from 'node:module'
      console.log(Object.keys(await import('${door}')).length)
      console.log(Object.keys(createRequire(import.meta.url)('${door}')).length)`)
    const [imported, required] = stdout.trim().split('\n').map(Number)

    expect(imported).toBeGreaterThan(0)
    expect(required).toBe(imported)
  })

  test('brings along its dependencies and what they need, and no more', async () => {
    const installed = await readdir(join(app, 'node_modules'))

    for (const name of Object.keys(manifest.dependencies)) expect(installed).toContain(name)
    for (const name of Object.keys(manifest.devDependencies)) {
      if (!BESIDE.includes(name) && !name.startsWith('@')) expect(installed).not.toContain(name)
    }
  })
})

function node(code: string) {
  return run(process.execPath, ['--input-type=module', '--eval', code], { cwd: app })
}

/** What the compiler says of a file of a strict host, the declarations of all packages included. */
async function compile(file: string, ...more: string[]): Promise<string> {
  const tsc = join(app, 'node_modules/typescript/bin/tsc')
  const flags = '--noEmit --strict --skipLibCheck false --module nodenext --target es2023 --types node'.split(' ')
  const { stdout } = await run(process.execPath, [tsc, ...flags, ...more, file], { cwd: app }).catch(
    (error: { stdout: string }) => error,
  )
  return stdout
}

describe('a host with exactOptionalPropertyTypes', () => {
  test('may give undefined wherever something is optional', async () => {
    expect(await compile('exact-host.mts', '--exactOptionalPropertyTypes')).toBe('')
  }, 180_000)
})

describe('the quick start of the README', () => {
  test('is strict TypeScript as it stands', async () => {
    expect(await compile('server.mts')).toBe('')
  }, 180_000)

  describe('run as it stands', () => {
    let server: ChildProcess
    let url: string
    beforeAll(async () => {
      const env = { PATH: process.env.PATH, PORT: '0', TOTP_ENCRYPTION_KEY: generateFernetKey() }
      server = spawn(process.execPath, ['server.mjs'], { cwd: app, env, stdio: ['ignore', 'pipe', 'inherit'] })
      url = await listening(server)
    })
    afterAll(async () => {
      const ended = once(server, 'exit')
      server.kill()
      await ended
    })

    const call = async (method: string, path: string, { body, bearer }: { body?: object; bearer?: string } = {}) => {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: {
          ...(body ? { 'content-type': 'application/json' } : {}),
          ...(bearer ? { authorization: `Bearer ${bearer}` } : {}),
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
      })
      const answer = (await response.json()) as Record<string, string> & { backup_codes?: string[] }
      return { status: response.status, headers: response.headers, answer }
    }

    test('it lets in with the password, then only with a code, and shows the vault only after one', async () => {
      const ada = { username: 'ada', password: 'correct horse' }

      const refused = await call('POST', '/api/jwt/create/', { body: { ...ada, password: 'wrong' } })
      expect([refused.status, refused.answer.code]).toEqual([401, 'invalid_credentials'])

      const first = await call('POST', '/api/jwt/create/', { body: ada })
      expect([first.status, first.answer.is_totp_enabled]).toEqual([200, false])
      const bearer = String(first.answer.access)

      const setup = await call('POST', '/api/totp/create/', { bearer })
      expect(setup.status).toBe(201)
      expect(setup.answer.svg).toMatch(/^<svg/)
      const phone = otpauth.URI.parse(String(setup.answer.uri)) as otpauth.TOTP
      expect([phone.issuer, phone.label, phone.secret.base32]).toEqual(['Acme', 'ada@example.com', setup.answer.secret])

      const confirmed = await call('POST', '/api/totp/confirm/', { bearer, body: { input_code: phone.generate() } })
      expect(confirmed.status).toBe(200)
      expect(confirmed.answer.backup_codes).toHaveLength(10)

      const closed = await call('GET', '/api/vault', { bearer })
      expect([closed.status, closed.answer.code]).toEqual([401, 'step_up_required'])
      expect(closed.headers.get('www-authenticate')).toMatch(/^Bearer error="insufficient_user_authentication"/)

      const second = await call('POST', '/api/jwt/create/', { body: ada })
      expect(second.answer).toMatchObject({ is_totp_enabled: true, totp_challenge_token: expect.any(String) })

      const { totp_challenge_token } = second.answer
      // The next step's code, one step ahead of the clock: the confirmation has spent this one.
      const otp_code = phone.generate({ timestamp: Date.now() + 30_000 })
      const pair = await call('POST', '/api/jwt/totp/verify/', { body: { totp_challenge_token, otp_code } })
      expect(pair.status).toBe(200)

      const open = await call('GET', '/api/vault', { bearer: String(pair.answer.access) })
      expect([open.status, open.answer.secret]).toEqual([200, expect.stringContaining('treasure')])
      expect((await call('GET', '/api/vault')).status).toBe(401)
    })
  })
})

/** The URL of the server, when it says that it listens. */
async function listening(server: ChildProcess): Promise<string> {
  let output = ''
  return new Promise((resolve, reject) => {
    server.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString()
      const [, port] = /Listening: .*port: (\d+)/.exec(output) ?? []
      if (port !== undefined) resolve(`http://127.0.0.1:${port}`)
    })
    server.once('exit', (code) => reject(new Error(`the quick start ended with ${code}: ${output}`)))
  })
}

describe('an application that has older packages', () => {
  let older: string
  beforeAll(async () => {
    older = await mkdtemp(join(tmpdir(), 'totp-kit-older-'))
    const dependencies = {
      'better-sqlite3': '9.6.0',
      express: '4.19.2',
      nodemailer: '6.9.16',
      pg: '8.10.0',
      'totp-kit': `file:${join(app, tarballName)}`,
    }
    await writeFile(join(older, 'package.json'), JSON.stringify({ name: 'older', private: true, dependencies }))
    const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts']
    // Rejects where a peer range refuses one of them: ERESOLVE.
    await run('npm', ['install', ...flags], { cwd: older })
  }, 240_000)
  afterAll(() => rm(older, { recursive: true }))

  test('installs beside Express 4, nodemailer 6, pg 8.10 and better-sqlite3 9, and serves a log-in on Express 4', async () => {
    const program = `
      import assert from 'node:assert/strict'
      import express from 'express'
      import { createTotp, generateFernetKey } from 'totp-kit'
      import { expressTotp } from 'totp-kit/express'
      import { memoryStore } from 'totp-kit/store/memory'
      import { fakeClock, authenticatorFor } from 'totp-kit/testing'

      const clock = fakeClock(1_800_000_000)
      const store = memoryStore()
      const encryptionKey = generateFernetKey()
      const totp = await createTotp({ issuer: 'Acme', encryptionKey, store, clock: clock.now })
      const app = express()
      app.use(express.json())
      app.use('/api', expressTotp(totp, { caller: () => ({ id: 'ada', accountName: 'ada' }) }))
      const server = app.listen(0, '127.0.0.1')
      await new Promise((resolve) => server.once('listening', resolve))
      const call = async (path, body) => {
        const headers = { 'content-type': 'application/json' }
        const url = 'http://127.0.0.1:' + server.address().port + '/api/' + path
        const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
        return { status: response.status, body: await response.json().catch(() => null) }
      }
      const setup = await call('totp/create/', {})
      assert.equal(setup.status, 201)
      const phone = authenticatorFor(setup.body.uri)
      const confirmed = await call('totp/confirm/', { input_code: phone.codeAt(clock.now()) })
      assert.equal(confirmed.body.backup_codes.length, 10)
      clock.advance(30)
      assert.equal((await call('totp/verify/', { otp_code: '0000000' })).status, 400)
      const verified = await call('totp/verify/', { otp_code: phone.codeAt(clock.now()) })
      assert.ok(verified.status < 300, String(verified.status))
      server.close()
      console.log('served on Express', (await import('express/package.json', { with: { type: 'json' } })).default.version)`
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', program], { cwd: older })

    expect(stdout.trim()).toBe('served on Express 4.19.2')
  }, 60_000)
})
