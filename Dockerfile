# The image of the service: docs/containers.md says how to use it.

# The build and the service have the same Node.js: the code cache of the build is for that version alone.
ARG NODE_IMAGE=docker.io/library/node:24-slim

# A private registry: docker build --secret id=npmrc,src=$HOME/.npmrc
FROM ${NODE_IMAGE} AS packages
WORKDIR /opt/fleet-manager
COPY package.json package-lock.json ./
# Optional packages of ssh2 are native code, which needs a compiler; without them it encrypts with Node.js alone.
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc \
  npm ci --ignore-scripts --omit=dev --omit=optional

FROM ${NODE_IMAGE} AS build
WORKDIR /opt/fleet-manager
COPY package.json package-lock.json ./
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc \
  npm ci --ignore-scripts
COPY LICENSE tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY plugins plugins
COPY src src
# A checkout may be readable for its owner only, and npm would make the program executable when it installs the package.
RUN npm run build && chmod 644 LICENSE package.json && chmod 755 dist/src/cli.js

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="fleet-manager" \
  org.opencontainers.image.description="Runs actions against CoreOS fleet clusters for callers on a RabbitMQ queue" \
  org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production
COPY --from=packages /opt/fleet-manager/node_modules /opt/fleet-manager/node_modules
COPY --from=build /opt/fleet-manager/LICENSE /opt/fleet-manager/package.json /opt/fleet-manager/
COPY --from=build /opt/fleet-manager/dist /opt/fleet-manager/dist
RUN ln -s /opt/fleet-manager/dist/src/cli.js /usr/local/bin/fleet-manager
# For config/production.json, and the files that settings name.
WORKDIR /etc/fleet-manager
# A number, so that Kubernetes sees that it is not root. Any other works too.
USER 65532:65532
EXPOSE 8080
# Whether the process responds, not whether a broker can be reached: a new container would not help against that.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
  CMD ["node", "/opt/fleet-manager/dist/src/cli.js", "health"]
ENTRYPOINT ["node", "/opt/fleet-manager/dist/src/cli.js"]
CMD ["serve"]
