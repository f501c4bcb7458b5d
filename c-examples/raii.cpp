// The C library with C++11 smart pointers: raii HOST PORT USER DBNAME
// They free what they own; a failure is an exception with the library's message.
#include <libpq-fe.h>
#include <pgiam.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

template <typename T, void (*Free)(T *)>
struct Deleter {
    void operator()(T *pointer) const { Free(pointer); }
};

using Client = std::unique_ptr<pgiam_client, Deleter<pgiam_client, pgiam_client_free>>;
using Error = std::unique_ptr<pgiam_error, Deleter<pgiam_error, pgiam_error_free>>;
using Token = std::unique_ptr<char, Deleter<char, pgiam_string_free>>; // wiped when freed: no std::string copy
using Connection = std::unique_ptr<PGconn, Deleter<PGconn, PQfinish>>;
using Result = std::unique_ptr<PGresult, Deleter<PGresult, PQclear>>;

void check(pgiam_status status, pgiam_error *raw)
{
    Error error(raw);
    if (status != PGIAM_OK)
        throw std::runtime_error(pgiam_error_message(error.get()));
}

Client make_client()
{
    pgiam_client *client = nullptr;
    pgiam_error *error = nullptr;
    pgiam_status status = pgiam_client_new(nullptr, nullptr, &client, &error);
    check(status, error);
    return Client(client);
}

Token make_token(pgiam_client *client, const char *host, int port, const char *user)
{
    char *token = nullptr;
    pgiam_error *error = nullptr;
    pgiam_status status = pgiam_client_generate_token(client, host, port, nullptr, user, &token, nullptr, &error);
    check(status, error);
    return Token(token);
}

Connection connect(pgiam_client *client, char **argv)
{
    Token token = make_token(client, argv[1], std::atoi(argv[2]), argv[3]);
    const char *keywords[] = {"host", "port", "user", "dbname", "sslmode", "password", nullptr};
    const char *values[] = {argv[1], argv[2], argv[3], argv[4], "verify-full", token.get(), nullptr};
    Connection connection(PQconnectdbParams(keywords, values, 0));
    if (PQstatus(connection.get()) != CONNECTION_OK)
        throw std::runtime_error(PQerrorMessage(connection.get()));
    return connection;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 5) {
        std::cerr << "usage: " << argv[0] << " HOST PORT USER DBNAME\n";
        return 2;
    }
    try {
        Client client = make_client();
        Connection connection = connect(client.get(), argv);
        Result result(PQexec(connection.get(), "select current_user"));
        if (PQresultStatus(result.get()) != PGRES_TUPLES_OK)
            throw std::runtime_error(PQerrorMessage(connection.get()));
        std::cout << "logged in as " << PQgetvalue(result.get(), 0, 0) << "\n";
    } catch (const std::exception &error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
    return 0;
}
