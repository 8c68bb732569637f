/** The metrics of the service. */
export interface ScrapeSource {
  readonly contentType: string;
  /** All metrics now, with a size and within a time that are bounded. */
  text(): Promise<string>;
}
