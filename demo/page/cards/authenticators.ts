import type { Status } from '../api.ts'
import type { Account } from '../app.ts'
import { deliberately } from '../deliberate.ts'
import { withStepUp } from '../dialogs.ts'
import { el, moment } from '../dom.ts'
import { actionButton, type ErrorRegion, errorRegion, field, form } from '../form.ts'

type Authenticator = Status['authenticators'][number]

export function authenticatorsCard(account: Account): HTMLElement {
  const { authenticators } = account.status
  const errors = errorRegion()
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Authenticators'),
    el(
      'ul',
      { class: 'things', 'data-authenticators': true },
      ...authenticators.map((each) => item(account, each, errors)),
    ),
    errors.element,
    further(account),
  )
}

function item(
  { app, me, status }: Account,
  { id, name, created_at, last_used_at }: Authenticator,
  errors: ErrorRegion,
) {
  const called = name ?? 'Authenticator app'
  const remove = actionButton({
    action: 'remove-authenticator',
    label: 'Remove',
    busyLabel: 'Removing…',
    class: 'danger',
    errors,
    work: async () => {
      const deed = {
        question: `Remove “${called}”?`,
        consequence: 'Its codes stop working. Your other log-ins and trusted devices end.',
        action: 'confirm-remove',
        label: 'Remove',
        reason: `To remove “${called}”, enter a code of another authenticator or a backup code.`,
      }
      const removed = await deliberately(me, deed, (code) => app.api.removeAuthenticator(id, code))
      if (removed !== null) app.toAccount({ notice: `“${called}” is removed: its codes no longer work.` })
    },
  })
  remove.setAttribute('aria-label', `Remove ${called}`)
  const used = last_used_at === null ? ['Not used yet'] : ['Last used ', moment(last_used_at)]
  return el(
    'li',
    {},
    el('div', {}, el('strong', {}, called), el('small', {}, ...used), el('small', {}, 'Added ', moment(created_at))),
    // The last one goes only with all of two-factor authentication.
    status.authenticators.length > 1 ? remove : null,
  )
}

/** The server says only at the confirmation whether the new one stands beside the others or takes a place. */
function further({ app, me, status }: Account): HTMLElement {
  const name = field({
    name: 'name',
    label: 'Another phone or app',
    hint: 'You may give it a name, such as “Tablet”. You scan a QR code next.',
    optional: true,
    attributes: { maxlength: '64', autocomplete: 'off' },
  })
  return form({
    action: 'new-phone',
    label: 'Set it up',
    busyLabel: 'Preparing…',
    look: '',
    fields: [name],
    submit: async () => {
      const reason = 'To set up another phone or app, enter a code from the present one, or a backup code.'
      const enrolment = await withStepUp(reason, (code) => app.api.create(name.input.value.trim(), code))
      const live = status.authenticators.map(({ id }) => id)
      if (enrolment !== null) app.toSetup({ enrolment, username: me.username, live, enrolmentToken: null })
    },
  })
}
