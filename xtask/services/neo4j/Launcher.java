import java.nio.file.Path;
import java.util.Map;
import org.neo4j.configuration.GraphDatabaseSettings;
import org.neo4j.configuration.connectors.BoltConnector;
import org.neo4j.configuration.helpers.SocketAddress;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;

/**
 * Neo4j Community with Bolt on 127.0.0.1, for tests. Arguments: directory of its data, port. The password of the user
 * neo4j comes from the environment, so that it is in no list of processes.
 */
class Launcher {
    public static void main(String[] arguments) {
        try {
            start(Path.of(arguments[0]), Integer.parseInt(arguments[1]), System.getenv("NEO4J_PASSWORD"));
        } catch (Throwable failure) {
            failure.printStackTrace();
            // Threads of a server that is half there would keep the process.
            Runtime.getRuntime().halt(1);
        }
    }

    private static void start(Path directory, int port, String password) {
        var address = new SocketAddress("127.0.0.1", port);
        var service = new DatabaseManagementServiceBuilder(directory)
                .setConfig(GraphDatabaseSettings.auth_enabled, true)
                // Who waits for the server tries the password until it is set; that locks nobody out.
                .setConfig(GraphDatabaseSettings.auth_max_failed_attempts, 0)
                .setConfig(GraphDatabaseSettings.pagecache_memory, 64L << 20)
                .setConfig(BoltConnector.enabled, true)
                .setConfig(BoltConnector.listen_address, address)
                .setConfig(BoltConnector.advertised_address, address)
                .build();
        Runtime.getRuntime().addShutdownHook(new Thread(service::shutdown));
        service.database(GraphDatabaseSettings.SYSTEM_DATABASE_NAME)
                .executeTransactionally(
                        "ALTER USER neo4j SET PASSWORD $password CHANGE NOT REQUIRED", Map.of("password", password));
    }
}
