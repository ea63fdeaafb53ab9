# An app's image with hotinit from a release: the version and one checksum are all that
# the app's repository has to know.
ARG BASE=debian:stable-slim

FROM alpine:3 AS hotinit
ARG HOTINIT_VERSION=1.0.0
# Of the release's file hotinit_VERSION_sha256.txt, which has all other checksums.
ARG HOTINIT_SHA256=write-the-checksum-here
ARG HOTINIT_RELEASES=https://github.com/hotinit/hotinit/releases/download
RUN set -eu; \
    case "$(uname -m)" in \
        x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; armv7*) arch=armv7 ;; \
        i?86) arch=386 ;; *) arch=$(uname -m) ;; \
    esac; \
    file="hotinit_${HOTINIT_VERSION}_linux_$arch" sums="hotinit_${HOTINIT_VERSION}_sha256.txt"; \
    wget -q "$HOTINIT_RELEASES/v$HOTINIT_VERSION/$sums" "$HOTINIT_RELEASES/v$HOTINIT_VERSION/$file"; \
    echo "$HOTINIT_SHA256  $sums" | sha256sum -c -; \
    grep "  $file\$" "$sums" | sha256sum -c -; \
    chmod 755 "$file"; \
    mv "$file" hotinit

FROM ${BASE}
COPY --from=hotinit /hotinit /usr/local/bin/hotinit
COPY app /app
EXPOSE 8080
ENTRYPOINT ["hotinit", "--", "/app/server"]
