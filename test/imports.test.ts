import { dirname, join } from 'node:path/posix'
import * as rootDoor from 'totp-kit'
import * as expressDoor from 'totp-kit/express'
import * as fetchDoor from 'totp-kit/fetch'
import * as httpDoor from 'totp-kit/http'
import * as jwtDoor from 'totp-kit/jwt'
import * as mailDoor from 'totp-kit/mail'
import * as nodeDoor from 'totp-kit/node'
import * as recoveryDoor from 'totp-kit/recovery'
import * as redisDoor from 'totp-kit/redis'
import * as d1Door from 'totp-kit/store/d1'
import * as libsqlDoor from 'totp-kit/store/libsql'
import * as memoryDoor from 'totp-kit/store/memory'
import * as mysqlDoor from 'totp-kit/store/mysql'
import * as postgresDoor from 'totp-kit/store/postgres'
import * as sqliteDoor from 'totp-kit/store/sqlite'
import * as testingDoor from 'totp-kit/testing'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'
import manifest from '../package.json' with { type: 'json' }
import { currentTables } from '../src/store/sql/migrations.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import tsdownConfig from '../tsdown.config.ts'
import { codesIn, fencesOf, filesUnder, readText, tableOf } from './markdown.ts'

const files = filesUnder('src', '.ts').filter((file) => !file.endsWith('.test.ts'))
const trees = new Map(
  files.map((file) => [file, ts.createSourceFile(file, readText(`src/${file}`), ts.ScriptTarget.ES2023, true)]),
)

interface Import {
  from: string
  /** A path below `src/`, a package, or a `node:` module. */
  target: string
  kind: 'value' | 'type'
}

/** Everything that a file imports, re-exports, or names in `import('…')`. */
function importsOf(file: string, tree: ts.SourceFile): Import[] {
  const imports: Import[] = []
  const add = (specifier: ts.Node | undefined, typeOnly: boolean) => {
    if (specifier === undefined || !ts.isStringLiteral(specifier)) return
    const { text } = specifier
    const target = text.startsWith('.') ? join(dirname(file), text) : text
    imports.push({ from: file, target, kind: typeOnly ? 'type' : 'value' })
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, isTypeImport(node.importClause))
    if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly || areTypes(node.exportClause))
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true)
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0], false)
    ts.forEachChild(node, visit)
  }
  visit(tree)
  return imports
}

function isTypeImport(clause: ts.ImportClause | undefined): boolean {
  if (clause === undefined) return false
  return clause.phaseModifier === ts.SyntaxKind.TypeKeyword || (!clause.name && areTypes(clause.namedBindings))
}

function areTypes(bindings: ts.NamedImportBindings | ts.NamedExportBindings | undefined): boolean {
  return bindings !== undefined && 'elements' in bindings && bindings.elements.every(({ isTypeOnly }) => isTypeOnly)
}

const imports = [...trees].flatMap(([file, tree]) => importsOf(file, tree))

interface Permission {
  room: string
  target: string
  kind: Import['kind']
}

const COLUMNS = ['room', 'values of', 'types of', 'node: and packages', 'their types']
const table = tableOf('ARCHITECTURE.md', COLUMNS)
const permissions: Permission[] = table.flatMap((row) => {
  const [room = ''] = codesIn(row.room ?? '')
  const given = (kind: Import['kind'], ...columns: string[]) =>
    columns.flatMap((column) => codesIn(row[column] ?? '').map((target) => ({ room, target, kind })))
  return [...given('value', 'values of', 'node: and packages'), ...given('type', 'types of', 'their types')]
})
const rooms = table.flatMap((row) => codesIn(row.room ?? ''))

/** True when `path` is the file or package `name`, or lies in the room `name`. */
const within = (name: string, path: string) => path === name || path.startsWith(`${name}/`)
const roomOf = (file: string) => rooms.find((room) => within(room, file))
const isPermitted = ({ from, target, kind }: Import, permission: Permission) =>
  within(permission.room, from) &&
  within(permission.target, target) &&
  // Who may have the values may have the types too.
  (permission.kind === 'value' || kind === 'type')
const isAtHome = ({ from, target }: Import) => roomOf(from) === roomOf(target)
const say = ({ from, target, kind }: Import) => `${from} imports ${kind === 'type' ? 'types' : 'values'} of ${target}`

describe('the table of imports in ARCHITECTURE.md', () => {
  test('has a room for every file', () => {
    expect(files.filter((file) => roomOf(file) === undefined)).toEqual([])
  })

  test('permits every import', () => {
    const refused = imports.filter((one) => !isAtHome(one) && !permissions.some((given) => isPermitted(one, given)))

    expect(refused.map(say)).toEqual([])
  })

  test('permits nothing that is not used', () => {
    const unused = permissions.filter((given) => {
      const sameKind = imports.filter(({ kind }) => kind === given.kind)
      return !sameKind.some((one) => !isAtHome(one) && isPermitted(one, given))
    })

    expect(unused).toEqual([])
  })
})

test('no file imports itself by way of others, not even for a type', () => {
  expect(circles()).toEqual([])
})

/** Each circle of files once, as a path that ends where it begins. */
function circles(): string[] {
  const targets = new Map(files.map((file) => [file, imports.filter(({ from }) => from === file)]))
  const done = new Set<string>()
  const found: string[] = []
  const follow = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) found.push([...path.slice(path.indexOf(file)), file].join(' → '))
    if (path.includes(file) || done.has(file)) return
    for (const { target } of targets.get(file) ?? []) follow(target, [...path, file])
    done.add(file)
  }
  for (const file of files) follow(file, [])
  return found
}

test('the map in ARCHITECTURE.md names every file of src, and no other', () => {
  const [map] = fencesOf('ARCHITECTURE.md')
  const patterns = pathsOfTree(map?.code ?? '').map((path) => path.replace('src/', ''))
  const fits = (pattern: string, file: string) =>
    pattern.endsWith('/*.ts') ? dirname(file) === dirname(pattern) : file === pattern

  expect(files.filter((file) => !patterns.some((pattern) => fits(pattern, file)))).toEqual([])
  expect(patterns.filter((pattern) => !files.some((file) => fits(pattern, file)))).toEqual([])
})

/** The files of a tree that is drawn with two spaces for each level. */
function pathsOfTree(drawn: string): string[] {
  const folders: string[] = []
  return drawn.split('\n').flatMap((line) => {
    const [, indent = '', name = ''] = /^( *)(\S+)/.exec(line) ?? []
    folders.length = indent.length / 2
    if (name.endsWith('/')) folders.push(name)
    return name === '' || name.endsWith('/') ? [] : [folders.join('') + name]
  })
}

test('the list of tables in ARCHITECTURE.md is what the migrations make, and the table of migrations itself', () => {
  const made = currentTables.map(({ name }) => tablesOf()[name])
  const listed = tableOf('ARCHITECTURE.md', ['table', 'a row for', 'holds']).flatMap((row) => codesIn(row.table ?? ''))

  expect(listed.sort()).toEqual([...made, 'totp_migration'].sort())
})

test('the machine is asked for time, environment and output in one place each, and for randomness by crypto only', () => {
  expect([...trees].flatMap(([file, tree]) => asksOf(tree).map((ask) => `${file}: ${ask}`)).sort()).toEqual([
    'cli/index.ts: process.env',
    'cli/index.ts: process.exitCode',
    'cli/index.ts: process.stderr',
    'cli/index.ts: process.stdout',
    'clock.ts: Date.now',
    'clock.ts: performance.now',
    'clock.ts: performance.now',
    'create-totp.ts: process.stderr',
    'encryption-key.ts: process.env',
  ])
})

/** Where the globals through which a file could get at time, chance, environment and output are used. */
function asksOf(tree: ts.SourceFile): string[] {
  const asks: string[] = []
  const visit = (node: ts.Node): void => {
    const { parent } = node
    if (ts.isIdentifier(node) && !(ts.isPropertyAccessExpression(parent) && parent.name === node)) {
      const isMember = ts.isPropertyAccessExpression(parent)
      const name = isMember ? `${node.text}.${parent.name.text}` : node.text
      if (['process', 'console', 'performance', 'globalThis'].includes(node.text)) asks.push(name)
      if (name === 'Math.random' || name === 'Date.now') asks.push(name)
      if (name === 'Date' && ts.isNewExpression(parent) && !parent.arguments?.length) asks.push('new Date()')
      if (name === 'Date' && ts.isCallExpression(parent)) asks.push('Date()')
    }
    ts.forEachChild(node, visit)
  }
  visit(tree)
  return asks
}

describe('a door', () => {
  test('of package.json is an entry of the build, and the other way round', () => {
    const doors = Object.values(manifest.exports).filter((door) => typeof door === 'object')
    const builds = [tsdownConfig].flat() as { name?: string; entry?: unknown }[]
    const entries = [builds.find(({ name }) => name === 'totp-kit')?.entry].flat().map(String).flatMap(expandBraces)

    const built = [...doors.map((door) => door.default), ...Object.values(manifest.bin)]
    expect(built.map((file) => file.replace('./dist/', 'src/').replace('.js', '.ts')).sort()).toEqual(entries.sort())
    for (const door of doors) expect(door.types).toBe(door.default.replace('.js', '.d.ts'))
  })

  test('gives these names at run time, and no others', () => {
    const names = {
      '.': namesOf(rootDoor),
      './store/memory': namesOf(memoryDoor),
      './store/sqlite': namesOf(sqliteDoor),
      './store/libsql': namesOf(libsqlDoor),
      './store/d1': namesOf(d1Door),
      './store/postgres': namesOf(postgresDoor),
      './store/mysql': namesOf(mysqlDoor),
      './redis': namesOf(redisDoor),
      './jwt': namesOf(jwtDoor),
      './recovery': namesOf(recoveryDoor),
      './mail': namesOf(mailDoor),
      './http': namesOf(httpDoor),
      './express': namesOf(expressDoor),
      './node': namesOf(nodeDoor),
      './fetch': namesOf(fetchDoor),
      './testing': namesOf(testingDoor),
    }

    expect(Object.keys(names).sort()).toEqual(Object.keys(manifest.exports).filter(isModule).sort())
    expect(names).toEqual({
      '.': [
        'TotpError',
        'createTotp',
        'generateFernetKey',
        'generateTotpSecret',
        'problemReply',
        'problemResponse',
        'resolveFernetKey',
      ],
      './store/memory': ['memoryStore'],
      './store/sqlite': ['openSqlite', 'sqliteStore'],
      './store/libsql': ['libsqlStore'],
      './store/d1': ['d1Store'],
      './store/postgres': ['drizzleClient', 'postgresStore', 'prismaClient'],
      './store/mysql': ['mysqlStore'],
      './redis': ['withRedis'],
      './jwt': ['jwtTokens'],
      './recovery': ['accountRecovery'],
      './mail': ['nodemailerSender', 'notifyByMail'],
      './http': ['createHandle'],
      './express': ['expressTotp'],
      './node': ['nodeTotp'],
      './fetch': ['fetchTotp'],
      './testing': ['authenticatorFor', 'fakeClock', 'storeCases'],
    })
  })
})

function namesOf(door: object): string[] {
  return Object.keys(door).sort()
}

function isModule(door: string): boolean {
  return !door.endsWith('.json')
}

/** `a{b,c}` to `ab` and `ac`. */
function expandBraces(pattern: string): string[] {
  const [, before = pattern, choices = '', after = ''] = /^(.*)\{(.*)\}(.*)$/.exec(pattern) ?? []
  return choices.split(',').map((choice) => before + choice + after)
}
