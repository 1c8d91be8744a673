import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, normalize } from 'node:path/posix'
import { promisify } from 'node:util'
import * as totpKit from 'totp-kit'
import { jwtTokens } from 'totp-kit/jwt'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor } from 'totp-kit/testing'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import manifest from '../package.json' with { type: 'json' }
import { type Endpoint, endpoints } from '../src/contract/endpoints.ts'
import { problems } from '../src/contract/problems.ts'
import { TOTP_EVENTS } from '../src/events.ts'
import type { PolicyOptions } from '../src/policy.ts'
import { resolvePolicy } from '../src/resolve-policy.ts'
import { codesIn, DOCUMENTS, type Fence, fencesOf, filesUnder, ROOT, readText, tableOf } from './markdown.ts'

/** What an `@example` is given, unless it makes a `totp` of its own. */
const EXAMPLE_CONTEXT = `
import type { Caller, Totp } from 'totp-kit'
declare const totp: Totp
declare function callerOf(authorization: string | undefined): Promise<Caller | null>
`

const fenced = DOCUMENTS.flatMap(fencesOf).filter(({ language }) => language === 'ts')
/** Files of recipes need packages that are not installed here: test/recipes compiles and runs them. */
const inRecipes = fenced.filter(({ marks }) => marks.some((mark) => mark.startsWith('recipe=')))
const inDocuments = fenced.filter((sample) => !inRecipes.includes(sample))
const inDocstrings = filesUnder('src', '.ts').flatMap((file) => examplesOf(`src/${file}`))
const samples = [...inDocuments, ...inDocstrings]
const named = (list: readonly Fence[]) => list.map((sample) => ({ name: placeOf(sample), sample }))

function placeOf({ document, line }: Fence): string {
  return `${document}:${line}`
}

/** The `@example`s in the docstrings of a source file; one that is not fenced is code as a whole. */
function examplesOf(document: string): Fence[] {
  const tree = ts.createSourceFile(document, readText(document), ts.ScriptTarget.ES2023, true)
  const examples: Fence[] = []
  const visit = (node: ts.Node): void => {
    for (const tag of ts.getJSDocTags(node)) {
      if (tag.tagName.text !== 'example' || tag.parent.parent !== node) continue
      const text = ts.getTextOfJSDocComment(tag.comment) ?? ''
      const [, marks = '', code = text] = /^```ts(.*)\n([\s\S]*?)```$/m.exec(text) ?? []
      const line = tree.getLineAndCharacterOfPosition(tag.pos).line + (code === text ? 1 : 3)
      const context = /\bconst totp\b/.test(code) ? '' : EXAMPLE_CONTEXT
      examples.push({ document, language: 'ts', marks: marks.split(' ').filter(Boolean), code, line, context })
    }
    ts.forEachChild(node, visit)
  }
  visit(tree)
  return examples
}

describe('a sample', () => {
  const broken: Fence = {
    document: 'broken.md',
    language: 'ts',
    marks: [],
    code: "import { createTotp } from 'totp-kit'\n\nawait createTotp({ isuer: 'Acme' })\n",
    line: 10,
    context: 'declare const unused: string\n',
  }
  let mistakes: Map<Fence, string[]>
  beforeAll(() => {
    mistakes = mistakesIn([...samples, broken])
  }, 60_000)

  test.each(named(samples))('at $name compiles', ({ sample }) => {
    expect(mistakes.get(sample)).toEqual([])
  })

  test('is found wherever there is one', () => {
    const starts = (path: string, mark: RegExp) => readText(path).match(mark)?.length ?? 0
    const inSource = filesUnder('src', '.ts').map((file) => starts(`src/${file}`, /^ *\* @example$/gm))
    const begun = DOCUMENTS.map((document) => starts(document, /^```ts\b/gm))

    expect(inDocstrings).toHaveLength(sum(inSource))
    expect(inDocuments.length + inRecipes.length).toBe(sum(begun))
    expect(Math.min(sum(inSource), inDocuments.length, inRecipes.length)).toBeGreaterThan(0)
  })

  test.each(named(fenced))('at $name bears no mark but those of CONTRIBUTING.md', ({ sample }) => {
    expect(sample.marks.join(' ')).toMatch(/^(|run|file=\S+|recipe=[\w-]+ file=\S+)$/)
  })

  test('that does not compile is told by its document and line', () => {
    expect(mistakes.get(broken)).toEqual([expect.stringMatching(/^broken\.md:12: .*isuer/)])
  })
})

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

/** What the compiler says of each sample, each a module of its own beside `src/`, in one program. */
function mistakesIn(fences: readonly Fence[]): Map<Fence, string[]> {
  const config = ts.readConfigFile(`${ROOT}tsconfig.json`, ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, ROOT)
  options.noUnusedLocals = false
  options.noUnusedParameters = false
  options.moduleDetection = ts.ModuleDetectionKind.Force
  const files = new Map(fences.map((fence, index) => [`${ROOT}sample-${index}.ts`, fence]))
  const textOf = (name: string) => {
    const fence = files.get(name)
    return fence && fence.context + fence.code
  }
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = (name) => files.has(name) || fileExists(name)
  host.readFile = (name) => textOf(name) ?? readFile(name)
  host.getSourceFile = (name, target, ...rest) => {
    const text = textOf(name)
    return text === undefined ? getSourceFile(name, target, ...rest) : ts.createSourceFile(name, text, target, true)
  }
  const program = ts.createProgram([...files.keys()], options, host)
  return new Map(
    Array.from(files, ([name, fence]) => {
      const tree = program.getSourceFile(name)
      const diagnostics = [...program.getSyntacticDiagnostics(tree), ...program.getSemanticDiagnostics(tree)]
      return [fence, diagnostics.map((diagnostic) => tell(diagnostic, fence))]
    }),
  )
}

function tell({ file, start = 0, messageText }: ts.Diagnostic, { document, line, context }: Fence): string {
  const within = file?.getLineAndCharacterOfPosition(start).line ?? 0
  const contextLines = context.split('\n').length - 1
  const message = ts.flattenDiagnosticMessageText(messageText, ' ')
  return within < contextLines
    ? `${document}, context of the sample at ${line}: ${message}`
    : `${document}:${line + within - contextLines}: ${message}`
}

describe('a recipe', () => {
  test('stands in docs/recipes.md, and has a case that test/recipes runs', () => {
    const names = inRecipes.map(({ marks: [mark = ''] }) => mark.replace('recipe=', ''))
    const cases = filesUnder('test/recipes/cases', '.ts').map((file) => file.replace('.ts', ''))

    expect(new Set(inRecipes.map(({ document }) => document))).toEqual(new Set(['docs/recipes.md']))
    expect([...new Set(names)].sort()).toEqual(cases)
    expect(manifest.scripts['test:recipes']).toContain('test/recipes/recipes.mjs')
    expect(readText('.ci/run')).toContain('npm run --silent test:recipes')
  })
})

describe('a sample marked `run`', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'totp-kit-samples-'))
    await mkdir(join(folder, 'node_modules'))
    // As a user has it: through the doors of package.json, from dist/.
    await symlink(ROOT, join(folder, 'node_modules/totp-kit'))
    // A user installs it beside, to sign tokens with a key of their own.
    await symlink(join(ROOT, 'node_modules/jose'), join(folder, 'node_modules/jose'))
  })
  afterAll(async () => {
    await rm(folder, { recursive: true })
  })

  test.each(named(samples.filter(({ marks }) => marks.includes('run'))))(
    'at $name runs and prints what it says',
    async ({ sample }) => {
      const { code, document, line } = sample
      const compiled = ts.transpile(code, { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext })
      const file = join(folder, `${document.replaceAll(/\W/g, '-')}-${line}.mjs`)
      await writeFile(file, compiled)

      const { stdout, stderr } = await promisify(execFile)(process.execPath, [file], { timeout: 60_000 })

      expect(stderr).toBe('')
      const expected = Array.from(code.matchAll(/\/\/ → (.*)$/gm), ([, printed]) => printed)
      if (expected.length > 0) expect(stdout.trimEnd().split('\n')).toEqual(expected)
    },
    // The store of docs/store-of-your-own.md waits for the disk four thousand times.
    65_000,
  )
})

describe('a link', () => {
  const links = DOCUMENTS.flatMap((document) =>
    Array.from(readText(document).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g), ([, path = '', anchor]) => ({
      document,
      target: path === '' ? document : normalize(join(dirname(document), path)),
      anchor,
    })),
  )

  test.each(links)('in $document leads to $target #$anchor', ({ target, anchor }) => {
    expect(existsSync(ROOT + target)).toBe(true)
    if (anchor !== undefined) expect(anchorsOf(target)).toContain(anchor)
  })
})

/** The anchors that headings get: lower case, spaces as hyphens, other signs dropped. */
function anchorsOf(document: string): string[] {
  const headings = readText(document).matchAll(/^#+ (.*)$/gm)
  return Array.from(headings, ([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} -]/gu, '')
      .replaceAll(' ', '-'),
  )
}

describe('the README', () => {
  test('lists every endpoint with its method, access and status, and no other', () => {
    const columns = ['endpoint', 'caller', 'body', 'success']
    const listed = tableOf('README.md', columns).map(({ endpoint = '', caller, success = '' }) => {
      const [method, path] = endpoint.replaceAll('`', '').split(' ')
      return { method, path, caller, status: Number(success.slice(0, 3)) }
    })

    expect(listed).toEqual(
      Object.values<Endpoint>(endpoints).map(({ method, path, access, status }) => {
        return { method, path: `${path}/`, caller: access === 'caller' ? 'yes' : 'no', status }
      }),
    )
  })

  test('names every field that an endpoint takes', () => {
    const rows = tableOf('README.md', ['endpoint', 'caller', 'body', 'success'])
    const taken = Object.values<Endpoint>(endpoints).map(({ body }) =>
      Object.keys((body as { shape?: object }).shape ?? {}),
    )

    expect(rows.map(({ body = '' }) => codesIn(body).sort())).toEqual(taken.map((fields) => fields.sort()))
  })

  test('lists every error code with its status, and no other', () => {
    const listed = tableOf('README.md', ['code', 'status', 'when'])

    expect(Object.fromEntries(listed.map(({ code = '', status }) => [codesIn(code)[0], Number(status)]))).toEqual(
      Object.fromEntries(Object.entries(problems).map(([code, { status }]) => [code, status])),
    )
  })

  const options = tableOf('README.md', ['option', 'default', 'range', 'source, or what it does'])
  const policyOptions = options.flatMap(({ option = '', default: given = '', range = '' }) => {
    const [path = ''] = codesIn(option)
    const [stated] = codesIn(given)
    return stated === undefined ? [] : [{ path, stated, range }]
  })

  test.each(policyOptions)('states the default of $path', ({ path, stated }) => {
    expect(resolvePolicy(withOption(path, stated))).toEqual(resolvePolicy({ issuer: 'Acme' }))
  })

  test.each(policyOptions.filter(({ range }) => range.includes(' to ')))(
    'states the range of $path',
    ({ path, range }) => {
      const [least = 0, most = 0] = range.split(' to ').map(Number)

      for (const inside of [least, most]) resolvePolicy(withOption(path, inside))
      for (const outside of [least - 1, most + 1]) {
        expect(() => resolvePolicy(withOption(path, outside))).toThrow(RangeError)
      }
    },
  )

  test('lists every option of createTotp', () => {
    const tree = ts.createSourceFile(
      'options.ts',
      readText('src/policy.ts') + readText('src/create-totp.ts'),
      ts.ScriptTarget.ES2023,
      true,
    )
    const interfaces = tree.statements.filter(ts.isInterfaceDeclaration)
    const declared = ['TotpOptions', 'PolicyOptions'].flatMap((name) => {
      const members = interfaces.find((one) => one.name.text === name)?.members ?? []
      return members.map((member) => member.name?.getText(tree))
    })

    const listed = options.map(({ option = '' }) => codesIn(option)[0]?.split('.')[0])
    expect([...new Set(listed)].sort()).toEqual(declared.sort())
  })

  test('states the fixed numbers', () => {
    const policy = resolvePolicy({ issuer: 'Acme' })
    const listed = tableOf('README.md', ['number', 'value', 'source'])

    expect(Object.fromEntries(listed.map(({ number = '', value }) => [codesIn(number)[0], Number(value)]))).toEqual({
      pendingEnrollmentSeconds: policy.pendingEnrollmentSeconds,
      'totp.maxDriftSeconds': policy.totp.maxDriftSeconds,
      ...Object.fromEntries(Object.entries(policy.failures).map(([name, value]) => [`failures.${name}`, value])),
    })
  })

  test('states defaults and ranges of the token lifetimes', async () => {
    const totp = await newTotp()
    const authenticate = async () => null
    const rows = tableOf('README.md', ['option', 'default', 'range', 'what it does'])
    const lifetimes = rows.filter(({ range = '' }) => range.includes(' to '))
    const login = await totp.startLogin('42')
    if (login.status !== 'complete') throw new Error('nobody enrolled')
    const pair = await jwtTokens(totp, { authenticate }).issueTokens(login.proof)

    expect(lifetimes).toHaveLength(2)
    for (const { option = '', default: given = '', range = '' } of lifetimes) {
      const [name = ''] = codesIn(option)
      const [least = 0, most = 0] = range.split(' to ').map(Number)
      for (const inside of [least, most]) jwtTokens(totp, { authenticate, [name]: inside })
      for (const outside of [least - 1, most + 1]) {
        expect(() => jwtTokens(totp, { authenticate, [name]: outside })).toThrow(RangeError)
      }
      expect(lifetimeOf(name === 'accessTokenSeconds' ? pair.access : pair.refresh)).toBe(Number(codesIn(given)[0]))
    }
  })

  test('names no helper that is not there', async () => {
    const totp = await newTotp()
    const cells = tableOf('README.md', ['django-totp', 'totp-kit']).flatMap(({ 'totp-kit': here = '' }) =>
      codesIn(here),
    )
    const calls = cells.flatMap((cell) => Array.from(cell.matchAll(/(totp\.)?(\w+)(?=\()/g), ([call]) => call))
    const there = (call: string) => (call.startsWith('totp.') ? call.slice('totp.'.length) in totp : call in totpKit)

    expect(calls.length).toBeGreaterThan(15)
    expect(calls.filter((call) => !there(call))).toEqual([])
    expect(Object.keys(totp).filter((name) => !calls.includes(`totp.${name}`))).toEqual(['close'])
  })

  test('lists every event with what it holds, and no other', () => {
    const rows = tableOf('README.md', ['event', 'when', 'also holds'])
    const listed = rows.map(({ event = '', 'also holds': holds = '' }) => [codesIn(event)[0], codesIn(holds).sort()])
    const tree = ts.createSourceFile('events.ts', readText('src/events.ts'), ts.ScriptTarget.ES2023, true)
    const declared: [string, string[]][] = []
    const visit = (node: ts.Node): void => {
      if (ts.isTypeLiteralNode(node)) {
        const members = node.members.filter(ts.isPropertySignature)
        const type = members.find((member) => member.name.getText(tree) === 'type')?.type
        const others = members.map((member) => member.name.getText(tree)).filter((name) => name !== 'type')
        if (type && ts.isLiteralTypeNode(type)) declared.push([type.getText(tree).replaceAll("'", ''), others.sort()])
      }
      ts.forEachChild(node, visit)
    }
    visit(tree)

    expect(declared.map(([type]) => type)).toEqual(TOTP_EVENTS)
    expect(listed).toEqual(declared)
  })
})

test('what SECURITY.md promises of delays is what happens', async () => {
  const clock = { at: 1_800_000_000 }
  const totp = await newTotp(() => clock.at)
  const phone = authenticatorFor((await totp.createTotpSetup({ id: '42', accountName: 'ada' })).uri)
  await totp.confirmTotpSetup('42', phone.codeAt(clock.at))
  const waits: number[] = []

  for (let failures = 0; failures < 100; ) {
    const refused = await totp.verifyTotpCode('42', 'wrong').catch((error: totpKit.TotpError) => error)
    const wait = 'retryAfterSeconds' in refused ? (refused.retryAfterSeconds ?? 0) : 0
    if (wait === 0) failures++
    else waits.push(wait)
    clock.at += wait
  }

  expect(waits.slice(0, 6)).toEqual([30, 60, 120, 240, 480, 900])
  expect(new Set(waits.slice(5))).toEqual(new Set([900]))
  clock.at += 86_400 * 365
  await expect(totp.verifyTotpCode('42', phone.codeAt(clock.at))).rejects.toMatchObject({
    code: 'second_factor_locked',
  })
})

function newTotp(clock?: totpKit.Clock): Promise<totpKit.Totp> {
  const encryptionKey = totpKit.generateFernetKey()
  return totpKit.createTotp({ issuer: 'Acme', encryptionKey, store: memoryStore(), ...(clock ? { clock } : {}) })
}

/** Options with one set, by its path: `totp.digits`. */
function withOption(path: string, value: string | number): PolicyOptions {
  const [name = '', member] = path.split('.')
  const set = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value
  return { issuer: 'Acme', [name]: member === undefined ? set : { [member]: set } }
}

function lifetimeOf(token: string): number {
  const { iat, exp } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as Record<
    string,
    number
  >
  return Number(exp) - Number(iat)
}
