"""PySpark on local[N]: DataFrame for what SQL can say, with the JVM's start included as a user pays it."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from benchmarks.peers.arguments import Task, main


def wordcount(task: Task) -> None:
    session = (
        SparkSession.builder.master(f"local[{task.workers}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.shuffle.partitions", str(2 * task.workers))
        .getOrCreate()
    )
    words = session.read.text(str(task.source)).select(f.explode(f.split("value", r"[\t\x0b\x0c\r ]+")).alias("word"))
    counts = words.where("word != ''").groupBy("word").count()
    lines = counts.select(f.concat_ws("\t", "word", f.col("count").cast("string")))
    lines.write.mode("overwrite").text(str(task.target))
    session.stop()


if __name__ == "__main__":
    main({"wordcount": wordcount})
