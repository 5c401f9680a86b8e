# Posthaste alone; Postgres is another container (see docker-compose.yml).
FROM rust:1.95.0-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY .sqlx .sqlx
COPY migrations migrations
COPY presets presets
COPY src src
COPY benches benches
COPY tests tests
RUN cargo build --release --locked

FROM debian:12.12-slim
RUN useradd --system --create-home --home-dir /var/lib/posthaste posthaste && install -d -o posthaste -g posthaste /var/lib/posthaste/data
COPY --from=build /build/target/release/posthaste /usr/local/bin/posthaste
USER posthaste
WORKDIR /var/lib/posthaste
ENV POSTHASTE_LISTEN=0.0.0.0:8080 POSTHASTE_DATA_DIR=/var/lib/posthaste/data
EXPOSE 8080
ENTRYPOINT ["posthaste"]
CMD ["serve"]
