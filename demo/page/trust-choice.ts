import { deviceName } from './device-name.ts'
import { el, newId } from './dom.ts'
import { field } from './form.ts'
import { count } from './wording.ts'

export interface TrustChoice {
  readonly element: HTMLElement
  /** The name of the device, when it is to be trusted; null when it is not. */
  trustedName(): string | null
}

/** Whether logins on this device need no code for the days that the server allows. */
export function trustChoice(days: number): TrustChoice {
  const name = field({
    name: 'device-name',
    label: 'Name of this device',
    hint: 'The device appears under this name in your account.',
    value: deviceName(navigator.userAgent),
    attributes: { maxlength: '64', autocomplete: 'off' },
  })
  const box = el('input', {
    type: 'checkbox',
    id: newId(),
    name: 'trust-device',
    onchange: () => {
      name.row.hidden = !box.checked
    },
  })
  name.input.setAttribute('aria-describedby', name.hint.id)
  name.row.hidden = true
  const label = el('label', { for: box.id }, `Don’t ask for a code on this device for ${count(days, 'day')}`)
  return {
    element: el('div', { class: 'choice' }, el('div', { class: 'with-box' }, box, label), name.row),
    trustedName: () => (box.checked ? name.input.value.trim() || deviceName(navigator.userAgent) : null),
  }
}
