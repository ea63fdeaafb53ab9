FROM scratch
ARG TARGETPLATFORM
COPY $TARGETPLATFORM/hotinit-exporter /hotinit-exporter
EXPOSE 9927
ENTRYPOINT ["/hotinit-exporter"]
