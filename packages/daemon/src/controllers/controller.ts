/** Where controllers write what goes wrong; pino's signature. */
export interface ControllerLog {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
