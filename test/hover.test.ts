import ts from 'typescript'
import { beforeAll, describe, expect, test } from 'vitest'
import { doorProgram, exportsOf } from './doors.ts'
import { ROOT } from './markdown.ts'

/** Types that a host gives: an optional member has a default, and may be given as undefined. */
const GIVEN =
  /(Options|Limits|Freshness|Import|Templates|Names|Mail|By|Caller|CallerSession|Enforcement|FirstFactor|TypedCode|HttpRequest)$/
/** Called by our main examples. */
const WITH_EXAMPLE = [
  'createTotp',
  'jwtTokens',
  'accountRecovery',
  'notifyByMail',
  'expressTotp',
  'nodeTotp',
  'fetchTotp',
  'createHandle',
  'sqliteStore',
  'libsqlStore',
  'd1Store',
  'postgresStore',
  'mysqlStore',
  'withRedis',
]
const METHODS_WITH_EXAMPLE = ['importAuthenticator', 'within', 'requireFresh', 'permitChange']

type Member = ts.TypeElement | ts.ClassElement

interface Documented {
  name: string
  node: ts.Node
}

describe('the hover text', () => {
  let exported: Documented[]
  let members: (Documented & { type: string; node: Member })[]
  beforeAll(() => {
    const program = doorProgram()
    const symbols = new Set(exportsOf(program).flatMap((door) => door.symbols))
    exported = [...symbols].flatMap((symbol) =>
      (symbol.declarations ?? [])
        .filter((node) => node.getSourceFile().fileName.startsWith(`${ROOT}src/`))
        .map((node) => ({ name: symbol.name, node })),
    )
    members = exported.flatMap(({ name: type, node }) =>
      membersOf(node).map((member) => ({ type, name: `${type}.${member.name?.getText() ?? '()'}`, node: member })),
    )
  }, 120_000)

  test('of every export of a door says something', () => {
    expect(exported.length).toBeGreaterThan(80)
    expect(exported.filter(({ node }) => textOf(node) === '').map(({ name }) => name)).toEqual([])
  })

  test('of every member of an exported type says something', () => {
    expect(members.length).toBeGreaterThan(300)
    expect(members.filter(({ node }) => textOf(node) === '').map(({ name }) => name)).toEqual([])
  })

  test('of every optional member that a host gives says what holds without it', () => {
    const optional = members.filter(({ type, node }) => GIVEN.test(type) && isOptional(node))

    expect(optional.length).toBeGreaterThan(50)
    expect(optional.filter(({ node }) => !/\bdefault\b/i.test(textOf(node))).map(({ name }) => name)).toEqual([])
  })

  test('has an example where it is most needed', () => {
    const functions = exported.filter(({ name }) => WITH_EXAMPLE.includes(name))
    const methods = members.filter(({ name }) => METHODS_WITH_EXAMPLE.some((method) => name === `Totp.${method}`))

    expect([functions.length, methods.length]).toEqual([WITH_EXAMPLE.length, METHODS_WITH_EXAMPLE.length])
    expect([...functions, ...methods].filter(({ node }) => !hasExample(node)).map(({ name }) => name)).toEqual([])
  })
})

test('every optional member that a host gives may be given as undefined', () => {
  const symbols = new Set(exportsOf(doorProgram()).flatMap((door) => door.symbols))
  const refusing = [...symbols]
    .filter(({ name }) => GIVEN.test(name))
    .flatMap((symbol) =>
      (symbol.declarations ?? []).flatMap(membersOf).flatMap((member) => {
        const isTyped = ts.isPropertySignature(member) && isOptional(member)
        return isTyped && !admitsUndefined(member.type) ? [`${symbol.name}.${member.name.getText()}`] : []
      }),
    )

  expect(refusing).toEqual([])
})

/** The members of an interface, of a class without what is private, and of the object types that a type is made of. */
function membersOf(node: ts.Node): Member[] {
  if (ts.isInterfaceDeclaration(node)) return [...node.members]
  if (ts.isTypeAliasDeclaration(node)) return literalsIn(node.type).flatMap((literal) => [...literal.members])
  if (!ts.isClassDeclaration(node)) return []
  return node.members.filter((member) => member.name !== undefined && !ts.isPrivateIdentifier(member.name))
}

/** `{ … }`, and those of a union or an intersection; in a union, the member that tells them apart speaks for itself. */
function literalsIn(type: ts.TypeNode): ts.TypeLiteralNode[] {
  if (ts.isTypeLiteralNode(type)) return [type]
  if (ts.isParenthesizedTypeNode(type)) return literalsIn(type.type)
  if (ts.isIntersectionTypeNode(type) || ts.isUnionTypeNode(type)) return type.types.flatMap(literalsIn)
  return []
}

/** What an editor shows, without the tags; a member that only tells the kinds of a union apart needs none. */
function textOf(node: ts.Node): string {
  if (ts.isPropertySignature(node) && node.type && isKind(node.type) && ts.isUnionTypeNode(unionAround(node)))
    return 'kind'
  const comments = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc)
  return comments
    .map(
      ({ comment, tags }) =>
        `${ts.getTextOfJSDocComment(comment) ?? ''}${(tags ?? []).map(({ comment }) => ts.getTextOfJSDocComment(comment) ?? '').join(' ')}`,
    )
    .join(' ')
    .trim()
}

function isKind(type: ts.TypeNode): boolean {
  return ts.isLiteralTypeNode(type) || (ts.isUnionTypeNode(type) && type.types.every(isKind))
}

function unionAround(member: ts.Node): ts.Node {
  const around = member.parent.parent
  return ts.isParenthesizedTypeNode(around) ? unionAround(around) : around
}

function isOptional(member: Member): boolean {
  return 'questionToken' in member && member.questionToken !== undefined
}

function admitsUndefined(type: ts.TypeNode | undefined): boolean {
  if (type === undefined) return true
  if (ts.isUnionTypeNode(type)) return type.types.some(admitsUndefined)
  return type.kind === ts.SyntaxKind.UndefinedKeyword || type.kind === ts.SyntaxKind.UnknownKeyword
}

function hasExample(node: ts.Node): boolean {
  return ts.getJSDocTags(node).some(({ tagName }) => tagName.text === 'example')
}
